"""One line before a run: the memory that it is expected to take, beside what there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.workflow.data.cases import Files, files_of
from custom_networks.workflow.data.formats.grid import Shape
from custom_networks.workflow.data.headers import shapes_of
from custom_networks.workflow.memory.bill import (
    available_bytes,
    cached_bytes,
    format_bytes,
    inference_bill,
    training_bill,
)
from custom_networks.workflow.train.checkpoint import bare

logger = logging.getLogger(__name__)


def _say(what: str, bill: Mapping[str, int], there: int, place: str, advice: str) -> None:
    """Log the expected peak, and a warning if there is less."""
    total = sum(bill.values())
    largest = sorted(bill.items(), key=lambda part: -part[1])[:3]
    logger.info(
        "%s is expected to take %s of %s (%s), %s are free",
        what,
        format_bytes(total),
        place,
        ", ".join(f"{name} {format_bytes(size)}" for name, size in largest),
        format_bytes(there),
    )
    if total > there:
        logger.warning(
            "%s is expected to take %s of %s but only %s are free; %s",
            what,
            format_bytes(total),
            place,
            format_bytes(there),
            advice,
        )


def check_fits(
    image: Files, spacing: Sequence[float], in_channels: int, series: str | None = None
) -> tuple[Shape, Shape]:
    """Return the voxels of an image in its file and at the spacing, or refuse one too large to be resampled.

    Args:
        image: its files.
        spacing: voxel size in mm of the network.
        in_channels: number of channels.
        series: SeriesInstanceUID to take from a DICOM folder of several.

    Raises:
        ValueError: if it would not fit into the free memory.
    """
    stored, resampled = shapes_of(image, spacing, series)
    need, there = 4 * in_channels * math.prod(resampled), available_bytes(torch.device("cpu"))
    if need > there:
        raise ValueError(
            f"{files_of(image)[0]} has {stored} voxels and would have {resampled} at the spacing {list(spacing)}, "
            f"{format_bytes(need)} where {format_bytes(there)} are free; correct the voxel size in its header, crop "
            "it, or set another spacing"
        )
    return stored, resampled


def report_memory(
    network: nn.Module,
    *,
    device: torch.device | str,
    in_channels: int,
    out_channels: int,
    spacing: Sequence[float],
    patch_size: Sequence[int],
    amp: bool,
    low_memory: bool,
    sw_batch_size: int = 1,
    batch_size: int | None = None,
    cache_rate: float = 0.0,
    training: Sequence[Mapping[str, Any]] = (),
    validation: Sequence[Mapping[str, Any]] = (),
    inference: Sequence[Mapping[str, Any]] = (),
    series: str | None = None,
) -> None:
    """Log the expected peak of a run beside what is free, and warn with the knob to change where it is more.

    Stops a run only where an image by itself, resampled, would not fit into the free memory, which is mostly a voxel
    size that is wrong. Where the network cannot be run without values, one sentence says that there is no bill.

    Args:
        network: the network, or what distributed training wrapped around it.
        device: where it runs.
        in_channels: channels of an image.
        out_channels: classes.
        spacing: voxel size in mm that images are resampled to.
        patch_size: patch and window in voxels.
        amp: the knob of that name.
        low_memory: the knob of that name.
        sw_batch_size: windows per forward pass.
        batch_size: patches per step of a training, or ``None`` where nothing is trained.
        cache_rate: share of the training and validation cases that is cached.
        training: cases to train on.
        validation: cases to validate on.
        inference: images to segment.
        series: SeriesInstanceUID to take from DICOM folders of several.

    Raises:
        ValueError: if a resampled image does not fit into the free memory.
    """
    device = torch.device(device)
    network = bare(network)
    there, place = available_bytes(device), "GPU memory" if device.type == "cuda" else "memory"
    sizes = [
        [check_fits(case["image"], spacing, in_channels, series) for case in cases]
        for cases in (training, validation, inference)
    ]
    try:
        train_shapes, validation_shapes = ([pair[1] for pair in pairs] for pairs in sizes[:2])
        cached = cached_bytes(train_shapes, validation_shapes, in_channels, cache_rate)
        extra = {"cached data": cached} if cached else {}
        if device.type == "cuda":
            if cached:
                _say("the cache", extra, available_bytes(torch.device("cpu")), "main memory", "lower cache_rate")
            extra = {}
        if batch_size is not None:
            bill = training_bill(
                network, in_channels=in_channels, patch_size=patch_size, batch_size=batch_size, amp=amp, device=device
            )
            _say("training", {**bill, **extra}, there, place, "lower batch_size, patch_size or cache_rate")
        to_segment = [*sizes[1], *sizes[2]]
        if to_segment:
            stored, resampled = max(to_segment, key=lambda pair: sum(math.prod(shape) for shape in pair))
            bill = inference_bill(
                network,
                resampled,
                in_channels=in_channels,
                out_channels=out_channels,
                patch_size=patch_size,
                original_shape=None if stored == resampled else stored,
                one_hot=bool(sizes[1]),
                low_memory=low_memory,
                sw_batch_size=sw_batch_size,
                amp=amp,
                device=device,
            )
            advice = "set device to cpu, or crop the image" if low_memory else "set low_memory to true"
            _say(f"the largest image, {stored} voxels,", {**bill, **extra}, there, place, advice)
    # a bill that cannot be made is no reason to stop: networks of users may do anything in their forward pass
    except Exception as error:
        logger.info("there is no memory bill: %s", " ".join(str(error).split())[:200])
