"""The plan for a GPU: patch, batch and network as large as its memory allows, by these rules.

1. A step of training, as :func:`custom_networks.workflow.memory.bill.training_bill` has it, takes at most 85 % of the
   memory; the rest is left to CUDA itself, to cuDNN and to what the allocator cannot give back.
2. The network has full width, 32 channels that double with every step to 320 at most, and as many steps as leave four
   voxels per axis, by nnU-Net's rule for anisotropic data (``deepest``); each network says for itself what else follows
   (``scaled_arguments``, ``patch_arguments``).
3. The patch grows first, with a batch of two: it is the median image or, where that takes too much, the median image
   shortened along the axis of which it holds most, again and again, so that it keeps the image's aspect.
4. The batch grows where the patch is the median image, to at most 5 % of the voxels of the data set.
5. 1000 epochs of 250 steps.
6. The learning rate is 0.0003, and gradients are clipped to a norm of 12: the networks are many times as wide as those
   that the bundles' 0.003 was found with. Auto3DSeg's SegResNet has 0.0002, Primus 0.0003, nnU-Net clips to 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from custom_networks.adapt.choices import MIN_VOXELS, Triple
from custom_networks.adapt.draft import format_sizes
from custom_networks.adapt.network import Fit, build, network_knobs, step_bytes
from custom_networks.workflow.memory.bill import format_bytes

SHARE = 0.85
SMALLEST_BATCH = 2
SHARE_OF_VOXELS = 0.05
EPOCHS = 1000
GPU_KNOBS: dict[str, Any] = {"steps_per_epoch": 250, "learning_rate": 0.0003, "clip_gradients": 12.0}
"""What the profile of a GPU plan holds besides patch, batch and network."""

Bytes = Callable[[int], int]


@dataclass(frozen=True)
class Rung:
    """A patch with the network that takes it.

    Args:
        patch_size: voxels per axis.
        strides: strides per axis of each step.
        knobs: profile entries of the network.
    """

    patch_size: Sequence[int]
    strides: Sequence[Triple]
    knobs: Mapping[str, Any]

    @property
    def voxels(self) -> int:
        """The voxels of the patch."""
        return math.prod(self.patch_size)


def ladder(definition: Mapping[str, Any], spacing: Sequence[float], median: Sequence[int]) -> Iterator[Rung]:
    """Yield the patches that a network may have, the largest first.

    Args:
        definition: ``network_def`` of the bundle.
        spacing: mm per voxel.
        median: voxels of the median image.

    Example:
        >>> unet = {"_target_": "custom_networks.nets.AttentionUnet", "kernel_size": 3}
        >>> [rung.patch_size for rung in ladder(unet, (1, 1, 1), (36, 50, 35))][:4]
        [[40, 56, 40], [40, 56, 32], [40, 48, 32], [32, 48, 32]]
    """
    raw = [float(n) for n in median]
    while True:
        patch, strides, knobs = network_knobs(definition, spacing, median, raw, scaled=True)
        yield Rung(patch, strides, knobs)
        divisor = [math.prod(steps) for steps in zip(*strides, strict=True)]
        can = [axis for axis, part in enumerate(divisor) if patch[axis] > part]
        if math.prod(patch) <= MIN_VOXELS or not can:
            return
        raw = [min(n, whole) for n, whole in zip(patch, median, strict=True)]
        # of axes that hold the same share the last goes first, as in nnU-Net
        axis = max(can, key=lambda axis: (round(patch[axis] / median[axis], 9), axis))
        raw[axis] = patch[axis] - divisor[axis]


def gpu_fit(
    bundle: Path,
    config: Mapping[str, Any],
    knobs: Mapping[str, Any],
    median: Sequence[int],
    memory: int,
    voxels: int,
    device: torch.device,
) -> Fit:
    """Return the largest patch and batch that the memory allows, with the network that takes them.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        knobs: the profile as far as it is known; holds spacing, channels and classes.
        median: voxels of the median image at ``spacing``.
        memory: bytes of the GPU.
        voxels: voxels of all images at ``spacing``.
        device: the GPU, which need not be there.

    Raises:
        ValueError: if the smallest patch takes more.
    """
    limit, rungs = SHARE * memory, list(ladder(config["network_def"], knobs["spacing"], median))

    def bytes_of(rung: Rung) -> Bytes:
        network = build(bundle, {**knobs, **rung.knobs})
        return lambda batch: step_bytes(network, {**config, **knobs}, rung.patch_size, batch, device)

    best = _largest(rungs, lambda rung: bytes_of(rung)(SMALLEST_BATCH), limit)
    if best is None:
        need = bytes_of(rungs[-1])(SMALLEST_BATCH)
        raise ValueError(
            f"a training step of {bundle.name} at full width takes {format_bytes(need)} with {SMALLEST_BATCH} patches "
            f"of {format_sizes(rungs[-1].patch_size)} voxels, more than {SHARE:.0%} of {format_bytes(memory)}; give "
            "more memory, or plan with --device cpu, whose profile a GPU runs, too"
        )
    whole = best is rungs[0]
    most = max(SMALLEST_BATCH, round(SHARE_OF_VOXELS * voxels / best.voxels)) if whole else SMALLEST_BATCH
    batch_size, need = largest_batch(bytes_of(best), limit, most)
    network = build(bundle, {**knobs, **best.knobs})
    return Fit(best.knobs, best.patch_size, batch_size, need, whole, not whole, best.strides, network)


def _largest(rungs: Sequence[Rung], bytes_of: Callable[[Rung], int], limit: float) -> Rung | None:
    """Return the first rung that takes no more than the limit, guessed from the voxels, which it nearly grows with."""
    low, high, guess = -1, len(rungs), 0  # all to low take more, none from high on does
    while high - low > 1:
        need = bytes_of(rungs[guess])
        low, high = (low, guess) if need <= limit else (guess, high)
        fitting = rungs[guess].voxels * limit / need
        guess = next((i for i, rung in enumerate(rungs) if rung.voxels <= fitting), len(rungs) - 1)
        guess = min(max(guess, low + 1), max(high - 1, low + 1))
    return rungs[high] if high < len(rungs) else None


def largest_batch(bytes_of: Bytes, limit: float, most: int) -> tuple[int, int]:
    """Return the largest batch whose step takes no more than the limit, and what it takes.

    Args:
        bytes_of: returns what a batch takes; grows with it as a straight line, or nearly.
        limit: bytes, enough for a batch of two.
        most: the largest batch, two or more.

    Example:
        >>> largest_batch(lambda batch: 10 + 7 * batch, limit=60, most=100)
        (7, 59)
    """
    least, need = SMALLEST_BATCH, bytes_of(SMALLEST_BATCH)
    if most == least:
        return least, need
    if (need_of_most := bytes_of(most)) <= limit:
        return most, need_of_most
    slope = (need_of_most - need) / (most - least)
    batch = min(most - 1, least + int((limit - need) / slope))
    while batch > least and (need_of_batch := bytes_of(batch)) > limit:
        batch -= 1
    return (batch, need_of_batch) if batch > least else (least, need)
