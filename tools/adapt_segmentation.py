"""A profile of a segmentation bundle for a data set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.workflow.data_list import FOLDS, case_name, segmentation_data_list
from custom_networks.workflow.headers import at_spacing
from custom_networks.workflow.memory import cached_bytes, human, inference_bill
from tools.adapt_choices import (
    COARSE_PERCENTILE,
    folds_of,
    foreground_ratio,
    patients,
    schedule,
    target_spacing,
)
from tools.adapt_network import Fit, fit
from tools.dataset_facts import CT_PERCENTILES, Facts
from tools.dataset_files import INDEX, read_json

Line = tuple[str, str, str]
"""What, its value, why."""


def segmentation_profile(
    bundle: Path, config: Mapping[str, Any], facts: Facts, memory: int
) -> tuple[dict[str, Any], list[list[str]] | None, list[Line]]:
    """Return the profile, the folds where cases belong together, and one line per finding or choice.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        facts: the data set.
        memory: bytes that a training may take, step and cached data together.

    Raises:
        ValueError: if there is nothing to train or to validate on, or the memory does not suffice.
    """
    names = [case_name(image.path) for image in facts.images]
    shapes, sizes = [image.shape for image in facts.images], [image.spacing for image in facts.images]
    axes = Counter(image.axes for image in facts.images)
    lines: list[Line] = [
        ("cases", str(len(names)), "listed in " + INDEX if facts.image_glob is None else f"{facts.image_glob}"),
        ("orientation", ", ".join(f"{n} {code}" for code, n in axes.most_common()), "turned to RAS when read"),
        ("voxels", f"{_range(shapes)}", f"along the axes of RAS, median {_times(np.median(shapes, axis=0))}"),
    ]
    profile: dict[str, Any] = {"in_channels": len(facts.channels)}
    lines.append(("in_channels", f"{len(facts.channels)}: {', '.join(facts.channels)}", facts.source))
    _classes(facts, profile, lines)
    profile["spacing"], anisotropic = target_spacing(sizes, shapes)
    why = f"median; coarse axis: percentile {COARSE_PERCENTILE}, as nnU-Net" if anisotropic else "median of the headers"
    lines.append(("spacing", f"{_times(profile['spacing'])} mm", why))
    _intensity(facts, profile, lines)
    resampled = [at_spacing(*pair, profile["spacing"]) for pair in zip(shapes, sizes, strict=True)]
    median = [round(n) for n in np.median(resampled, axis=0)]
    chosen = fit(bundle, config, profile, median, memory)
    profile |= {"patch_size": list(chosen.patch_size), "batch_size": chosen.batch_size}
    reason = "about the median image" if chosen.whole else f"at most 64^3 voxels of the median image {_times(median)}"
    lines.append(("patch_size", _times(chosen.patch_size), reason))
    need = f"a step is expected to take {human(chosen.step_bytes)} of {human(memory)}"
    lines.append(("batch_size", str(chosen.batch_size), need))
    background = next(iter(facts.classes.values()))
    share = 1 - sum(facts.voxels.get(value, 0) for value in background) / sum(facts.voxels.values())
    profile["foreground_ratio"] = foreground_ratio(share, chosen.whole, config["foreground_ratio"])
    lines.append(("foreground_ratio", str(profile["foreground_ratio"]), f"{share:.2%} of the voxels are foreground"))
    training, validation, folds = _split(bundle, facts, names, profile, lines)
    epochs, interval = schedule(_steps(bundle, config), len(training), chosen.batch_size)
    profile |= {"epochs": epochs, "val_interval": interval}
    per_epoch = math.ceil(len(training) / chosen.batch_size)
    lines.append(("epochs", str(epochs), f"of {per_epoch} steps; validation every {interval} (val_interval)"))
    if "gate_warm_up_epochs" in config:
        profile["gate_warm_up_epochs"] = round(epochs * config["gate_warm_up_epochs"] / config["epochs"])
    by_name = dict(zip(names, resampled, strict=True))
    lists = [[by_name[name] for name in part] for part in (training, validation)]
    _memory(profile, config, lists, chosen, memory, lines)
    largest = max(range(len(resampled)), key=lambda case: math.prod(shapes[case]) + math.prod(resampled[case]))
    _low_memory(profile, config, (shapes[largest], resampled[largest]), chosen, memory, lines)
    profile |= dict(chosen.knobs)
    if "network_def#strides" in profile:
        strides = ", ".join(_times(step) for step in chosen.strides)
        lines.append(("strides", strides, "coarse or short axes are halved later, or not"))
    profile |= {
        "max_shape": np.max(resampled, axis=0).tolist(),
        "expected_input": f"an image like those of {facts.name}",
    }
    return profile, folds, lines


def _times(size: Any) -> str:
    return " x ".join(f"{n:g}" for n in size)


def _range(shapes: Sequence[Sequence[int]]) -> str:
    pairs = zip(np.min(shapes, axis=0), np.max(shapes, axis=0), strict=True)
    return " x ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in pairs)


def _classes(facts: Facts, profile: dict[str, Any], lines: list[Line]) -> None:
    names, values = list(facts.classes), list(facts.classes.values())
    profile["label_names"] = names
    if values != [[index] for index in range(len(names))]:
        profile["label_values"] = [value[0] if len(value) == 1 else value for value in values]
    named = [f"{name} = {' or '.join(map(str, own))}" for name, own in facts.classes.items()]
    why = "written back in the masks (label_values)" if "label_values" in profile else "values as they are"
    lines.append(("label_names", f"{len(names)}: {', '.join(named)}", why))
    rare = [
        f"{name} in {max(facts.cases.get(value, 0) for value in own)} cases"
        for name, own in facts.classes.items()
        if max(facts.cases.get(value, 0) for value in own) < len(facts.images)
    ]
    if rare:
        lines.append(("absent", ", ".join(rare), f"of {len(facts.images)}; absent classes are not scored"))


def _intensity(facts: Facts, profile: dict[str, Any], lines: list[Line]) -> None:
    schemes = list(facts.intensity)
    if all(scheme == "z_score" for scheme in schemes):
        lines.append(("intensity", "z_score", "per volume and channel, as suits MR"))
        return
    profile["intensity"] = schemes
    low, high = CT_PERCENTILES
    words = ", ".join(
        scheme
        if isinstance(scheme, str)
        else f"clip {_pair(scheme['clip'])}, mean {scheme['mean']:g}, std {scheme['std']:g}"
        for scheme in schemes
    )
    lines.append(("intensity", words, f"CT: percentiles {low:g} and {high:g}, mean and std inside the foreground"))


def _pair(values: Sequence[float]) -> str:
    return f"{values[0]:g} to {values[1]:g}"


def _split(
    bundle: Path, facts: Facts, names: Sequence[str], profile: dict[str, Any], lines: list[Line]
) -> tuple[list[str], list[str], list[list[str]] | None]:
    """Return the cases to train and to validate on, and folds where the names tell patients."""
    if len(names) < 2:
        raise ValueError(f"{facts.root} holds one case, which leaves nothing to validate on; add a case")
    if facts.image_glob is not None:
        profile |= {"image_glob": facts.image_glob, "label_glob": facts.label_glob}
    file = bundle / "configs" / "folds.json"
    known = {name for members in read_json(file)["folds"] for name in members} if file.is_file() else set()
    groups = None if facts.split or known & set(names) else patients(names)
    if groups is not None:
        folds = folds_of(groups)
        training = [name for fold in folds[1:] for name in fold]
        why = f"{len(groups)} patients by their names, all images of one in one fold (folds_file)"
        lines.append(("fold", "0", f"{len(training)} to train on, {len(folds[0])} to validate on; {why}"))
        return training, folds[0], folds
    listed: list[list[str]] = []
    for fold in range(FOLDS):
        try:
            listed = [
                [
                    case_name(case["image"])
                    for case in segmentation_data_list(
                        facts.root,
                        section,
                        fold=fold,
                        folds_file=file,
                        image_glob=facts.image_glob,
                        label_glob=facts.label_glob,
                    )
                ]
                for section in ("training", "validation")
            ]
        except ValueError as error:
            last = error
            continue
        if fold:
            profile["fold"] = fold
        break
    else:
        raise ValueError(f"no fold of {facts.root} can be trained on: {last}")
    rule = f"folds of {bundle.name}" if known & set(names) else "rank among the sorted names modulo 5"
    why = f"validation list of {INDEX}" if facts.split else rule
    lines.append(("fold", str(fold), f"{len(listed[0])} to train on, {len(listed[1])} to validate on; {why}"))
    return listed[0], listed[1], None


def _steps(bundle: Path, config: Mapping[str, Any]) -> int:
    """Return the steps of the training that the bundle ships."""
    folds = [len(members) for members in read_json(bundle / "configs" / "folds.json")["folds"]]
    cases = sum(folds) - folds[config["fold"]]
    return int(config["epochs"]) * math.ceil(cases / config["batch_size"])


def _memory(
    profile: dict[str, Any],
    config: Mapping[str, Any],
    shapes: Sequence[Sequence[Sequence[int]]],
    chosen: Fit,
    memory: int,
    lines: list[Line],
) -> None:
    """Choose the share of the cases that is kept in memory beside a step of training."""
    everything = cached_bytes(shapes[0], shapes[1], profile["in_channels"], 1.0)
    share = (memory - chosen.step_bytes) / max(everything, 1)
    profile["cache_rate"] = min(1.0, math.floor(share * 10) / 10)
    lines.append(("cache_rate", f"{profile['cache_rate']:g}", f"all cases, resampled, are {human(everything)}"))


def _low_memory(
    profile: dict[str, Any],
    config: Mapping[str, Any],
    largest: tuple[Sequence[int], Sequence[int]],
    chosen: Fit,
    memory: int,
    lines: list[Line],
) -> None:
    """Turn ``low_memory`` on where validating the largest image would take more than there is."""
    stored, resampled = largest
    bill = inference_bill(
        chosen.network,
        resampled,
        in_channels=profile["in_channels"],
        out_channels=len(profile["label_names"]),
        patch_size=chosen.patch_size,
        original_shape=None if tuple(stored) == tuple(resampled) else stored,
        one_hot=True,
        amp=config["amp"],
    )
    need = sum(bill.values())
    if need > memory:
        profile["low_memory"] = True
        lines.append(("low_memory", "true", f"the largest image, {_times(stored)}, would take {human(need)}"))
