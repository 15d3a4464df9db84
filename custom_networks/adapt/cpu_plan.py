"""The plan for a processor: a patch whose steps take seconds, in the bundle's own network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.adapt.choices import MAX_VOXELS, MIN_VOXELS, largest_patch
from custom_networks.adapt.draft import format_sizes
from custom_networks.adapt.network import Fit, build, network_knobs, step_bytes
from custom_networks.workflow.memory.bill import format_bytes

# how much smaller a patch that takes too much becomes at least
SHRINK = 0.9
# patches of fewer voxels are halved in number before they shrink further
LEAST_IN_BATCHES = 32**3


def cpu_fit(
    bundle: Path,
    config: Mapping[str, Any],
    knobs: Mapping[str, Any],
    median: Sequence[int],
    memory: int,
    max_voxels: int = MAX_VOXELS,
) -> Fit:
    """Return the largest patch that the bounds allow, with the network that takes it.

    The patch is the median image at ``spacing`` or, where that has more than 64 x 64 x 64 voxels, the largest cube in
    mm of so many voxels, cut to the median image: a step with two such patches takes seconds on a CPU. Where a training
    step would take more than the memory, patches become smaller, down to 32 x 32 x 32 voxels; then the batch becomes
    one.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        knobs: the profile as far as it is known; holds spacing, channels and classes.
        median: voxels of the median image at ``spacing``.
        memory: bytes.
        max_voxels: in place of the 64 x 64 x 64, where the time asks for less.

    Raises:
        ValueError: if the smallest patch takes more.
    """
    laid_over = {**config, **knobs}
    need = 0
    for batch_size, least in ((config["batch_size"], LEAST_IN_BATCHES), (1, MIN_VOXELS)):
        bound = float(max_voxels)
        while bound >= min(least, math.prod(median)):
            raw = largest_patch(median, knobs["spacing"], bound)
            patch, strides, own = network_knobs(config["network_def"], knobs["spacing"], median, raw)
            network = build(bundle, {**knobs, **own})
            need = step_bytes(network, laid_over, patch, batch_size)
            if need <= memory:
                whole = all(n >= size for n, size in zip(patch, median, strict=True))
                limited = bound < max_voxels or batch_size < config["batch_size"]
                return Fit(own, patch, batch_size, need, whole, limited, strides, network)
            bound = math.prod(patch) * min(SHRINK, memory / need)
    raise ValueError(
        f"a training step of {bundle.name} takes {format_bytes(need)} with a single patch of {format_sizes(patch)} "
        f"voxels, but --memory allows {format_bytes(memory)}; give more"
    )
