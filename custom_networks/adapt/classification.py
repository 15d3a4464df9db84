"""A profile of the classification bundle for a folder of patches and the CSV file of their classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from custom_networks.adapt.choices import (
    MAX_VOXELS,
    VALIDATIONS,
    largest_patch,
    rounded_patch,
    schedule,
    target_spacing,
)
from custom_networks.adapt.draft import Draft, format_sizes, say_schedule
from custom_networks.adapt.facts import CT_PERCENTILES, SAMPLES, Header, finite_voxels, read_headers
from custom_networks.adapt.gpu_plan import EPOCHS, GPU_KNOBS, SHARE, SHARE_OF_VOXELS, SMALLEST_BATCH, largest_batch
from custom_networks.adapt.machine import Machine
from custom_networks.adapt.network import build, precision_of, step_bytes
from custom_networks.nets.attention_classifier import AttentionClassifier
from custom_networks.workflow.data.classification_list import TRAINING, classification_data_list, read_rows
from custom_networks.workflow.data.formats.grid import Shape
from custom_networks.workflow.data.headers import at_spacing
from custom_networks.workflow.memory.bill import cached_bytes, format_bytes

# the shipped training: 950 patches in batches of 32
SHIPPED_STEPS_PER_EPOCH = 30
SMALL_KERNELS = [3, 3]


def classification_profile(bundle: Path, config: Mapping[str, Any], root: Path, machine: Machine) -> Draft:
    """Return the profile.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        root: folder of the CSV file.
        machine: what trains; its memory takes a step, on a CPU together with the cached data.

    Raises:
        FileNotFoundError: if the CSV file or an image is missing.
        ValueError: if the files contradict each other, or the patches are too small for the network.
    """
    file = root / config["csv_file"]
    rows = read_rows(file)
    counts, splits = Counter(row.label for row in rows), sorted({row.split for row in rows})
    shipped = list(config["label_names"])
    names = shipped if set(counts) <= set(shipped) else sorted(counts)
    training, held_out = (
        len(classification_data_list(root, part, label_names=names, csv_file=config["csv_file"]))
        for part in (TRAINING, "held_out")
    )
    images = read_headers([root / row.image for row in rows])
    channels = images[0].channels
    odd = next((image for image in images if image.channels != channels), None)
    if odd is not None:
        raise ValueError(f"{odd.path} has {odd.channels} channels but {images[0].path} {channels}; give all the same")
    shapes, sizes = [image.shape for image in images], [image.spacing for image in images]
    spacing, _ = target_spacing(sizes, shapes)
    resampled = [at_spacing(*pair, spacing) for pair in zip(shapes, sizes, strict=True)]
    low, high = _range(images)
    draft = Draft({"in_channels": channels, "label_names": names, "spacing": spacing, "intensity_range": [low, high]})
    draft.say("cases", str(len(rows)), f"{file.name}, splits {', '.join(splits)}")
    draft.say("in_channels", str(channels), "of the headers")
    draft.say("label_names", ", ".join(f"{name} ({counts[name]})" for name in names), f"column label of {file.name}")
    draft.say("spacing", f"{format_sizes(spacing)} mm", "median of the headers")
    draft.say(
        "intensity_range", f"{low:g} to {high:g}", "percentiles {:g} and {:g} of the voxels".format(*CT_PERCENTILES)
    )
    draft.say("device", *machine.words)
    draft.profile |= machine.knobs
    patch, need = _patch(bundle, config, resampled, machine, draft)
    _evaluation(config, splits, draft)
    if machine.is_gpu:
        draft.profile |= GPU_KNOBS
        epochs, interval, steps = EPOCHS, max(1, EPOCHS // VALIDATIONS), GPU_KNOBS["steps_per_epoch"]
    else:
        batch_size = draft.profile["batch_size"]
        epochs, interval = schedule(SHIPPED_STEPS_PER_EPOCH * config["epochs"], training, batch_size)
        steps = math.ceil(training / batch_size)
    say_schedule(config, epochs, interval, steps, draft)
    everything = cached_bytes([patch] * training, [patch] * held_out, channels, 1.0)
    share = min(1.0, math.floor(machine.room_for_data(need) / everything * 10) / 10)
    draft.say("cache_rate", f"{share:g}", f"all patches are {format_bytes(everything)}")
    draft.profile |= {
        "cache_rate": share,
        "max_shape": np.max(resampled, axis=0).tolist(),
        "expected_input": f"a patch like those of {root.resolve().name}",
    }
    return draft


def _evaluation(config: Mapping[str, Any], splits: Sequence[str], draft: Draft) -> None:
    """Choose what evaluation scores: the bundle's split, or what there is beside the training one."""
    others = [split for split in splits if split != TRAINING]
    split = config["evaluation_split"]
    if others and split not in others:
        draft.profile["evaluation_split"] = split = "test" if "test" in others else others[0]
    draft.say("evaluation_split", split if others else "the held-out fold", "what evaluation scores")


def _range(images: list[Header]) -> tuple[float, float]:
    """Return the percentiles of all intensities, from some voxels of every image."""
    chance, values = np.random.default_rng(0), []
    for image in tqdm(images, desc="adapt", unit="case", disable=None):
        voxels = finite_voxels(image.path).reshape(-1)
        values.append(voxels if voxels.size <= SAMPLES else chance.choice(voxels, SAMPLES))
    low, high = (round(float(n), 3) for n in np.percentile(np.concatenate(values), CT_PERCENTILES))
    if not low < high:
        raise ValueError(f"nearly all voxels of the {len(images)} patches are {low:g}; give images with contrast")
    return low, high


def _patch(
    bundle: Path, config: Mapping[str, Any], shapes: Sequence[Shape], machine: Machine, draft: Draft
) -> tuple[list[int], int]:
    """Choose patch, kernels where the patches are too small for the bundle's, and batch; return patch and step."""
    median, smallest = [round(n) for n in np.median(shapes, axis=0)], np.min(shapes, axis=0)
    bound = math.inf if machine.is_gpu else MAX_VOXELS
    patch = rounded_patch(largest_patch(median, draft.profile["spacing"], bound), median, (1, 1, 1))
    if machine.is_gpu:
        _full_width(config, draft)
    network = build(bundle, draft.profile)
    if (smallest < _least(network)).any():
        least = format_sizes(_least(network))
        why = f"the smallest has {format_sizes(smallest)} voxels, the bundle's kernels need {least}"
        draft.profile["network_def#kernel_size"] = SMALL_KERNELS
        draft.say("kernel_size", " and ".join(map(str, SMALL_KERNELS)), why)
        network = build(bundle, draft.profile)
    if (smallest < _least(network)).any():
        raise ValueError(
            f"the smallest patch has {format_sizes(smallest)} voxels of {format_sizes(draft.profile['spacing'])} mm, "
            f"but {bundle.name} needs {format_sizes(_least(network))}; cut larger patches"
        )
    laid_over = {**config, **draft.profile}

    def bytes_of(batch: int) -> int:
        return step_bytes(network, laid_over, patch, batch, machine.device)

    why, memory = "", machine.memory
    if machine.is_gpu:
        limit = SHARE * memory
        most = max(SMALLEST_BATCH, round(SHARE_OF_VOXELS * sum(map(math.prod, shapes)) / math.prod(patch)))
        batch_size, need = largest_batch(bytes_of, limit, most)
        why = f"at most {SHARE_OF_VOXELS:.0%} of the voxels, {SMALLEST_BATCH} or more; "
    else:
        limit, batch_size = memory, config["batch_size"]
        while (need := bytes_of(batch_size)) > limit and batch_size > 1:
            batch_size //= 2
    if need > limit:
        raise ValueError(
            f"a training step takes {format_bytes(need)} with a batch of {batch_size}, but --memory allows "
            f"{format_bytes(limit)}; give more"
        )
    draft.profile |= {"patch_size": patch, "batch_size": batch_size}
    bounded = "" if machine.is_gpu else ", up to 64 x 64 x 64 voxels"
    draft.say("patch_size", format_sizes(patch), f"the median patch, {format_sizes(median)}{bounded}")
    draft.say(
        "batch_size",
        str(batch_size),
        f"{why}a step is expected to take {format_bytes(need)} of {format_bytes(memory)}",
    )
    draft.say("precision", *precision_of(laid_over | draft.profile, network, machine.device))
    return patch, need


def _full_width(config: Mapping[str, Any], draft: Draft) -> None:
    """Give the network the widths that a GPU allows, where it has any of its own."""
    kind = locate(str(config["network_def"]["_target_"]))
    if isinstance(kind, type) and issubclass(kind, AttentionClassifier):
        scaled = kind.scaled_arguments()
        draft.profile |= {f"network_def#{key}": value for key, value in scaled.items()}
        draft.say("features", ", ".join(map(str, scaled["features"])), "full width")


def _least(network: nn.Module) -> tuple[int, ...]:
    return tuple(vars(network)["min_size"])
