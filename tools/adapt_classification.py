"""A profile of the classification bundle for a folder of patches and the CSV file of their classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import LoadImage
from tqdm import tqdm

from custom_networks.workflow.classification_list import TRAINING, classification_data_list, read_rows
from custom_networks.workflow.headers import at_spacing
from custom_networks.workflow.memory import cached_bytes, human
from tools.adapt_choices import MAX_VOXELS, largest_patch, rounded_patch, schedule, target_spacing
from tools.adapt_network import build, step_bytes
from tools.adapt_segmentation import Line
from tools.dataset_facts import CT_PERCENTILES, SAMPLES, Header, read_headers, read_voxels

# the shipped training: 950 patches in batches of 32
SHIPPED_STEPS_PER_EPOCH = 30
SMALL_KERNELS = [3, 3]


def classification_profile(
    bundle: Path, config: Mapping[str, Any], root: Path, memory: int
) -> tuple[dict[str, Any], list[Line]]:
    """Return the profile, and one line per finding or choice.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        root: folder of the CSV file.
        memory: bytes that a step of training and the cached data may take together.

    Raises:
        FileNotFoundError: if the CSV file or an image is missing.
        ValueError: if the files contradict each other, or the patches are too small for the network.
    """
    file = root / config["csv_file"]
    rows = read_rows(file)
    counts = Counter(row.label for row in rows)
    shipped = list(config["label_names"])
    names = shipped if set(counts) <= set(shipped) else sorted(counts)
    splits = sorted({row.split for row in rows})
    profile: dict[str, Any] = {"label_names": names}
    lists = [
        classification_data_list(root, part, label_names=names, csv_file=config["csv_file"])
        for part in (TRAINING, "held_out")
    ]
    images = read_headers([root / row.image for row in rows])
    odd = next((image for image in images if image.channels != images[0].channels), None)
    if odd is not None:
        raise ValueError(f"{odd.path} has {odd.channels} channels but {images[0].path} {images[0].channels}")
    shapes, sizes = [image.shape for image in images], [image.spacing for image in images]
    profile["in_channels"] = images[0].channels
    profile["spacing"], _ = target_spacing(sizes, shapes)
    low, high = _range(images)
    profile["intensity_range"] = [low, high]
    resampled = [at_spacing(*pair, profile["spacing"]) for pair in zip(shapes, sizes, strict=True)]
    lines: list[Line] = [
        ("cases", str(len(rows)), f"{file.name}, splits {', '.join(splits)}"),
        ("label_names", ", ".join(f"{name} ({counts[name]})" for name in names), f"column label of {file.name}"),
        ("in_channels", str(images[0].channels), "of the headers"),
        ("spacing", " x ".join(f"{n:g}" for n in profile["spacing"]) + " mm", "median of the headers"),
        ("intensity_range", f"{low:g} to {high:g}", "percentiles {:g} and {:g} of the voxels".format(*CT_PERCENTILES)),
    ]
    patch, need = _patch(bundle, config, profile, resampled, memory, lines)
    evaluated = config["evaluation_split"]
    others = [split for split in splits if split != TRAINING]
    if others and evaluated not in others:
        profile["evaluation_split"] = evaluated = "test" if "test" in others else others[0]
    lines.append(("evaluation_split", evaluated if others else "held-out fold", "what evaluation scores"))
    epochs, interval = schedule(SHIPPED_STEPS_PER_EPOCH * config["epochs"], len(lists[0]), profile["batch_size"])
    profile |= {"epochs": epochs, "val_interval": interval}
    lines.append(("epochs", str(epochs), f"{len(lists[0])} to train on; validation every {interval} (val_interval)"))
    everything = cached_bytes([patch] * len(lists[0]), [patch] * len(lists[1]), profile["in_channels"], 1.0)
    profile["cache_rate"] = min(1.0, math.floor((memory - need) / everything * 10) / 10)
    lines.append(("cache_rate", f"{profile['cache_rate']:g}", f"all cases are {human(everything)}"))
    profile |= {
        "max_shape": np.max(resampled, axis=0).tolist(),
        "expected_input": f"a patch like those of {root.resolve().name}",
    }
    return profile, lines


def _range(images: list[Header]) -> tuple[float, float]:
    """Return the percentiles of all intensities, from some voxels of every image."""
    reader, chance, values = LoadImage(image_only=True), np.random.default_rng(0), []
    for image in tqdm(images, desc="adapt", unit="case", disable=None):
        voxels = read_voxels(image.path, reader).reshape(-1)
        values.append(voxels if voxels.size <= SAMPLES else chance.choice(voxels, SAMPLES))
    low, high = (round(float(n), 3) for n in np.percentile(np.concatenate(values), CT_PERCENTILES))
    if not low < high:
        raise ValueError(f"nearly all voxels of the {len(images)} patches are {low:g}; give images with contrast")
    return low, high


def _patch(
    bundle: Path,
    config: Mapping[str, Any],
    profile: dict[str, Any],
    shapes: list[tuple[int, ...]],
    memory: int,
    lines: list[Line],
) -> tuple[list[int], int]:
    """Choose patch, kernels where the patches are too small for the bundle's, and batch; return patch and step."""
    median = [round(n) for n in np.median(shapes, axis=0)]
    patch = rounded_patch(largest_patch(median, profile["spacing"], MAX_VOXELS), median, (1, 1, 1))
    network, smallest = build(bundle, profile), np.min(shapes, axis=0)
    if (smallest < network.min_size).any():
        profile["network_def#kernel_size"] = SMALL_KERNELS
        needed, network = network.min_size, build(bundle, profile)
        why = f"the smallest has {_times(smallest)} voxels, the bundle's kernels need {_times(needed)}"
        lines.append(("kernel_size", " and ".join(map(str, SMALL_KERNELS)), why))
    if (smallest < network.min_size).any():
        raise ValueError(
            f"the smallest patch has {_times(smallest)} voxels of {_times(profile['spacing'])} mm, but {bundle.name} "
            f"needs {_times(network.min_size)}; cut larger patches"
        )
    batch_size, need = config["batch_size"], 0
    while batch_size >= 1:
        need = step_bytes(network, {**config, **profile}, patch, batch_size)
        if need <= memory:
            break
        batch_size //= 2
    else:
        raise ValueError(f"a training step takes {human(need)}, but --memory allows {human(memory)}; give more")
    profile |= {"patch_size": patch, "batch_size": batch_size}
    lines.append(("patch_size", _times(patch), f"the median patch, {_times(median)}, of at most 64^3 voxels"))
    lines.append(("batch_size", str(batch_size), f"a step is expected to take {human(need)} of {human(memory)}"))
    return patch, need


def _times(size: Any) -> str:
    return " x ".join(f"{n:g}" for n in size)
