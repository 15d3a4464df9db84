"""A profile of a segmentation bundle for a data set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.adapt.choices import (
    COARSE_PERCENTILE,
    MAX_VOXELS,
    VALIDATIONS,
    folds_of,
    foreground_ratio,
    schedule,
    target_spacing,
)
from custom_networks.adapt.cpu_plan import cpu_fit
from custom_networks.adapt.draft import Draft, format_sizes, say_schedule
from custom_networks.adapt.facts import CT_PERCENTILES, Facts
from custom_networks.adapt.gpu_plan import EPOCHS, GPU_KNOBS, SHARE_OF_VOXELS, SMALLEST_BATCH, gpu_fit
from custom_networks.adapt.machine import Machine
from custom_networks.adapt.neighbours import alike_neighbours
from custom_networks.adapt.network import Fit, precision_of
from custom_networks.files import read_json
from custom_networks.workflow.data.folds import FOLDS, SPLITS
from custom_networks.workflow.data.formats.grid import Shape
from custom_networks.workflow.data.headers import at_spacing
from custom_networks.workflow.data.layouts.files import INDEX
from custom_networks.workflow.data.patients import Patients, find_patients, shared_patients
from custom_networks.workflow.data.segmentation_list import segmentation_data_list
from custom_networks.workflow.memory.bill import cached_bytes, format_bytes, inference_bill
from custom_networks.workflow.transforms.intensity import Z_SCORE, Z_SCORE_NONZERO

Split = tuple[list[str], list[str]]
WARNING = "warning: patients"


def segmentation_profile(
    bundle: Path, config: Mapping[str, Any], facts: Facts, machine: Machine, max_voxels: int = MAX_VOXELS
) -> tuple[Draft, list[list[str]] | None]:
    """Return the profile, and the folds where cases belong together.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        facts: the data set.
        machine: what trains; its memory takes a step, on a CPU together with the cached data.
        max_voxels: of a patch on a CPU.

    Raises:
        ValueError: if there is nothing to train or to validate on, or the memory does not suffice.
    """
    draft = Draft({"in_channels": len(facts.channels)})
    names = facts.names
    shapes = [image.shape for image in facts.images]
    axes = Counter(image.axes for image in facts.images).most_common()
    draft.say("cases", str(len(names)), facts.layout)
    draft.say("orientation", ", ".join(f"{n} {code}" for code, n in axes), "turned to RAS when read")
    draft.say("voxels", _range(shapes), f"along the axes of RAS, median {format_sizes(np.median(shapes, axis=0))}")
    draft.say("in_channels", f"{len(facts.channels)}: {', '.join(facts.channels)}", facts.source)
    _classes(facts, draft)
    _intensity(facts, draft)
    resampled = _spacing(facts, draft)
    chosen = _patch(bundle, config, facts, resampled, machine, max_voxels, draft)
    (training, validation), folds = _split(bundle, facts, names, draft)
    _absent_classes(facts, training, draft)
    _schedule(bundle, config, len(training), machine, draft)
    size_of = dict(zip(names, resampled, strict=True))
    sizes = [[size_of[name] for name in part] for part in (training, validation)]
    choose_cache(sizes, machine.room_for_data(chosen.step_bytes), draft)
    _low_memory(config, shapes, resampled, chosen, machine, draft)
    _network(chosen, draft)
    if facts.in_one_piece:
        draft.profile["largest_component"] = True
        draft.say(
            "largest_component", "true", "every class is one connected piece in every label, but for stray voxels"
        )
    draft.profile["max_shape"] = np.max(resampled, axis=0).tolist()
    draft.profile["expected_input"] = f"an image like those of {facts.name}"
    return draft, folds


def _range(shapes: Sequence[Sequence[int]]) -> str:
    pairs = zip(np.min(shapes, axis=0), np.max(shapes, axis=0), strict=True)
    return " x ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in pairs)


def _classes(facts: Facts, draft: Draft) -> None:
    names, values = list(facts.classes), list(facts.classes.values())
    draft.profile["label_names"] = names
    why = "class values as they are"
    if facts.regions:
        draft.profile["regions"] = values[1:]
        why = "regions, outer ones first; one output and one sigmoid each"
    elif values != [[index] for index in range(len(names))]:
        draft.profile["label_values"] = [value[0] if len(value) == 1 else value for value in values]
        why = "label_values: written back in the masks"
    named = [f"{name} = {' or '.join(map(str, own))}" for name, own in facts.classes.items()]
    draft.say("label_names", f"{len(names)}: {', '.join(named)}", why)
    if facts.ignore_value is not None:
        draft.profile["ignore_value"] = facts.ignore_value
        share = facts.ignored / (facts.ignored + sum(facts.voxels.values()))
        draft.say("ignore_value", str(facts.ignore_value), f"{share:.2%} of the voxels, left out of loss and metrics")
    cases = {name: sum(not held.isdisjoint(own) for held in facts.cases) for name, own in facts.classes.items()}
    rare = [f"{name} in {n}" for name, n in cases.items() if n < len(facts.images)]
    if rare:
        draft.say("not in all cases", ", ".join(rare), f"of {len(facts.images)}")


def _intensity(facts: Facts, draft: Draft) -> None:
    schemes = list(facts.intensity)
    if any(scheme != Z_SCORE for scheme in schemes):
        draft.profile["intensity"] = schemes
    words = [
        scheme
        if isinstance(scheme, str)
        else f"clip {scheme['clip'][0]:g} to {scheme['clip'][1]:g}, mean {scheme['mean']:g}, std {scheme['std']:g}"
        for scheme in schemes
    ]
    low, high = CT_PERCENTILES
    zeros = ", ".join(f"{share:.0%}" for share, own in zip(facts.zeros, schemes, strict=True) if own == Z_SCORE_NONZERO)
    reasons = {
        "per volume and channel, as suits MR": Z_SCORE in schemes,
        f"mean and std of the voxels that are not zero; {zeros} of the voxels are": Z_SCORE_NONZERO in schemes,
        f"CT: percentiles {low:g} and {high:g}, mean, std inside the foreground": len(schemes)
        > sum(isinstance(scheme, str) for scheme in schemes),
    }
    draft.say("intensity", "; ".join(dict.fromkeys(words)), "; ".join(why for why, holds in reasons.items() if holds))


def _spacing(facts: Facts, draft: Draft) -> list[Shape]:
    """Choose the spacing and return the sizes of the images there."""
    shapes, sizes = [image.shape for image in facts.images], [image.spacing for image in facts.images]
    spacing, anisotropic = target_spacing(sizes, shapes)
    draft.profile["spacing"] = spacing
    coarse = f", on the coarse axis percentile {COARSE_PERCENTILE}, as nnU-Net" if anisotropic else " of the headers"
    draft.say("spacing", f"{format_sizes(spacing)} mm", f"median{coarse}")
    return [at_spacing(*pair, spacing) for pair in zip(shapes, sizes, strict=True)]


def _patch(
    bundle: Path,
    config: Mapping[str, Any],
    facts: Facts,
    resampled: Sequence[Shape],
    machine: Machine,
    max_voxels: int,
    draft: Draft,
) -> Fit:
    """Choose patch, batch and network, and how often a patch is drawn around the foreground."""
    median, memory = [round(n) for n in np.median(resampled, axis=0)], machine.memory
    draft.profile |= machine.knobs
    draft.say("device", *machine.words)
    if machine.is_gpu:
        voxels = sum(map(math.prod, resampled))
        chosen = gpu_fit(bundle, config, draft.profile, median, memory, voxels, machine.device)
    else:
        chosen = cpu_fit(bundle, config, draft.profile, median, memory, max_voxels)
    if chosen.whole:
        part = "about"
    elif machine.is_gpu:
        part = "of the aspect of, and as large as the memory allows,"
    elif chosen.limited:
        part = "a cube in mm, as large as the memory allows, of"
    else:
        part = "a cube in mm of at most 64 x 64 x 64 voxels of"
    need = f"a step is expected to take {format_bytes(chosen.step_bytes)} of {format_bytes(memory)}"
    if machine.is_gpu and chosen.whole:
        need = f"at most {SHARE_OF_VOXELS:.0%} of the voxels, {SMALLEST_BATCH} or more; {need}"
    background = next(iter(facts.classes.values()))
    share = 1 - sum(facts.voxels.get(value, 0) for value in background) / sum(facts.voxels.values())
    ratio = foreground_ratio(share, chosen.whole, config["foreground_ratio"])
    draft.profile |= {
        "patch_size": list(chosen.patch_size),
        "batch_size": chosen.batch_size,
        "foreground_ratio": ratio,
    }
    draft.say(
        "patch_size", format_sizes(chosen.patch_size), f"{part} the median image, {format_sizes(median)} at spacing"
    )
    draft.say("batch_size", str(chosen.batch_size), need)
    draft.say("precision", *precision_of({**config, **draft.profile}, chosen.network, machine.device))
    draft.say("foreground_ratio", f"{ratio:g}", f"{share:.2%} of the voxels are foreground")
    return chosen


def _split(bundle: Path, facts: Facts, names: Sequence[str], draft: Draft) -> tuple[Split, list[list[str]] | None]:
    """Return the cases to train and to validate on, and the folds where these are made of patients."""
    if len(names) < 2:
        raise ValueError(f"{facts.root} holds one case, which leaves nothing to validate on; add a case")
    patterns = {"image_glob": facts.image_glob, "label_glob": facts.label_glob}
    draft.profile |= {knob: pattern for knob, pattern in patterns.items() if pattern is not None}
    known = {name for fold in _shipped_folds(bundle) for name in fold} & set(names)
    given = facts.split or (facts.root / SPLITS).exists()
    patients = find_patients(facts.root, {name: image.path for name, image in zip(names, facts.images, strict=True)})
    folds = None
    if patients and not given and (patients.stated or not known):
        if len(patients.groups) < 2:
            raise ValueError(f"{facts.root} holds one patient, {patients.source}, and none to validate on; add another")
        folds = folds_of(patients.groups)
        fold, split = 0, ([name for members in folds[1:] for name in members], folds[0])
        why = f"{len(patients.groups)} patients {patients.source}, each in one fold (folds_file)"
    else:
        fold, split = _usual_split(bundle, facts)
        why = f"folds of {bundle.name}" if known else "rank among the sorted names modulo 5"
        why = f"validation list of {INDEX}" if facts.split else why
        why = f"{SPLITS} in the data set" if (facts.root / SPLITS).exists() else why
    if fold:
        draft.profile["fold"] = fold
    draft.say("fold", str(fold), f"{len(split[0])} to train on, {len(split[1])} to validate on; {why}")
    _warn_of_patients(patients, facts, split, draft)
    return split, folds


def _warn_of_patients(patients: Patients | None, facts: Facts, split: Split, draft: Draft) -> None:
    """Name cases to validate on whose patient is trained on; where nothing tells patients, pairs that look like one."""
    if patients is not None:
        if shared := shared_patients(patients.groups, *split):
            case, trained = next(iter(shared.items()))
            draft.say(
                WARNING,
                f"{len(shared)} of {len(split[1])} cases to validate on, such as {case}, are of a patient to train on",
                f"{trained} is of the same, {patients.source}, so the validation says too much; correct the folds",
            )
        return
    alike = alike_neighbours(dict(zip(facts.names, facts.volumes, strict=True)))
    if alike and alike.divided_by(*split):
        draft.say(WARNING, alike.what, alike.why)


def _shipped_folds(bundle: Path) -> list[list[str]]:
    file = bundle / "configs" / "folds.json"
    folds = read_json(file).get("folds")
    if not isinstance(folds, list) or not folds or not all(isinstance(members, list) for members in folds):
        raise ValueError(f"{file} has no entry folds, a list with the names of the cases of each; correct it")
    return folds


def _usual_split(bundle: Path, facts: Facts) -> tuple[int, Split]:
    """Return the first fold that leaves something to train and to validate on, with both lists."""

    def names(part: str, fold: int) -> list[str]:
        cases = segmentation_data_list(
            facts.root,
            part,
            fold=fold,
            default_folds=bundle / "configs" / "folds.json",
            image_glob=facts.image_glob,
            label_glob=facts.label_glob,
        )
        return [case["case"] for case in cases]

    for fold in range(FOLDS):
        with suppress(ValueError):
            return fold, (names("training", fold), names("validation", fold))
    return 0, (names("training", 0), names("validation", 0))  # says what is wrong


def _absent_classes(facts: Facts, training: Sequence[str], draft: Draft) -> None:
    """Name the classes that no case to train on has."""
    trained = set(training)
    held = set().union(*(own for name, own in zip(facts.names, facts.cases, strict=True) if name in trained))
    absent = [name for name, own in facts.classes.items() if held.isdisjoint(own)]
    if absent:
        why = (
            f"none of the {len(training)} cases to train on has it, so nothing can learn it; add cases, or leave it out"
        )
        draft.say("warning", f"no voxel of {', '.join(absent)}", why)


def shipped_steps(bundle: Path, config: Mapping[str, Any]) -> int:
    """Return the steps of the training that the bundle was shipped after.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
    """
    folds, fold = [len(members) for members in _shipped_folds(bundle)], config["fold"]
    validated = folds[fold] if isinstance(fold, int) and 0 <= fold < len(folds) else 0
    return config["epochs"] * math.ceil((sum(folds) - validated) / config["batch_size"])


def _schedule(bundle: Path, config: Mapping[str, Any], cases: int, machine: Machine, draft: Draft) -> None:
    """Choose epochs: on a GPU a number of them, on a CPU such that they make as many steps as the shipped training."""
    if machine.is_gpu:
        draft.profile |= GPU_KNOBS
        say_schedule(config, EPOCHS, max(1, EPOCHS // VALIDATIONS), GPU_KNOBS["steps_per_epoch"], draft)
    else:
        batch_size = draft.profile["batch_size"]
        epochs, interval = schedule(shipped_steps(bundle, config), cases, batch_size)
        say_schedule(config, epochs, interval, math.ceil(cases / batch_size), draft)


def choose_cache(shapes: Sequence[Sequence[Shape]], room: int, draft: Draft) -> None:
    """Choose the share of the cases that is kept in memory.

    Args:
        shapes: voxels per axis of the training cases, and of those to validate on.
        room: bytes for them.
        draft: holds ``in_channels``; gets ``cache_rate``.
    """
    everything = cached_bytes(shapes[0], shapes[1], draft.profile["in_channels"], 1.0)
    share = min(1.0, math.floor(room / everything * 10) / 10)
    draft.profile["cache_rate"] = share
    draft.say("cache_rate", f"{share:g}", f"all cases at spacing are {format_bytes(everything)}")


def _low_memory(
    config: Mapping[str, Any],
    stored: Sequence[Shape],
    resampled: Sequence[Shape],
    chosen: Fit,
    machine: Machine,
    draft: Draft,
) -> None:
    """Turn ``low_memory`` on where validating the largest image would take more than there is."""
    largest = max(range(len(stored)), key=lambda case: math.prod(stored[case]) + math.prod(resampled[case]))
    bill = inference_bill(
        chosen.network,
        resampled[largest],
        in_channels=draft.profile["in_channels"],
        out_channels=len(draft.profile.get("regions") or draft.profile["label_names"]),
        patch_size=chosen.patch_size,
        original_shape=None if stored[largest] == resampled[largest] else stored[largest],
        one_hot=True,
        amp=config["amp"],
        device=machine.device,
    )
    need = sum(bill.values())
    if need > machine.memory:
        draft.profile["low_memory"] = True
        draft.say(
            "low_memory", "true", f"validating {format_sizes(stored[largest])} voxels would take {format_bytes(need)}"
        )


def _network(chosen: Fit, draft: Draft) -> None:
    draft.profile |= dict(chosen.knobs)
    if "network_def#features" in chosen.knobs:
        features = ", ".join(map(str, chosen.knobs["network_def#features"]))
        draft.say("features", features, "full width, and as many steps as leave enough voxels")
    if "network_def#strides" in chosen.knobs:
        why = "nnU-Net's rule: an axis is halved once it is as fine as the others, to 4 voxels or more"
        draft.say("strides", ", ".join(format_sizes(step) for step in chosen.strides), why)
    if "network_def#kernel_size" in chosen.knobs:
        kernels = ", ".join(format_sizes(kernel) for kernel in chosen.knobs["network_def#kernel_size"])
        draft.say("kernel_size", kernels, "1 along an axis until it is as fine as the others")
