"""The memory bill of a head: the volumes are the head's, the network sees one crop at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from custom_networks.workflow.data.cases import files_of
from custom_networks.workflow.data.formats.grid import Shape
from custom_networks.workflow.data.volumes import read_grid
from custom_networks.workflow.memory.bill import FLOAT, Bill, available_bytes, format_bytes, inference_bill
from custom_networks.workflow.train.checkpoint import bare

logger = logging.getLogger(__name__)

COPIES = 3
"""Volumes of the size of the head that are there at once: as read, turned to RAS, smoothed for the registration."""
LABELS = 3
"""Label maps of a byte per voxel: that of the inferer, the one turned back, the one that is written."""


def head_bill(
    network: nn.Module,
    shape: Sequence[int],
    *,
    in_channels: int,
    out_channels: int,
    spacing: Sequence[float],
    crop_size: Sequence[float],
    patch_size: Sequence[int],
    amp: bool,
    sw_batch_size: int = 1,
    device: torch.device | None = None,
) -> Bill:
    """Return what the segmentation of a head takes at its worst moment.

    Args:
        network: the network, unchanged by this.
        shape: voxels per axis of the file.
        in_channels: channels of the image.
        out_channels: classes of the network.
        spacing: voxel size in mm of a crop.
        crop_size: mm of a crop.
        patch_size: window in voxels.
        amp: the knob of that name.
        sw_batch_size: windows per forward pass.
        device: the device to run on, or ``None`` for the CPU.

    Raises:
        RuntimeError: if the network needs the values of a tensor, so that it cannot be run without any.
    """
    crop = [max(1, round(mm / size)) for mm, size in zip(crop_size, spacing, strict=True)]
    of_crop = inference_bill(
        network,
        crop,
        in_channels=in_channels,
        out_channels=out_channels,
        patch_size=patch_size,
        sw_batch_size=sw_batch_size,
        amp=amp,
        device=device,
    )
    return {**of_head(shape, in_channels), "a crop and the network on it": sum(of_crop.values())}


def of_head(shape: Sequence[int], in_channels: int) -> Bill:
    """Return the part of :func:`head_bill` that depends on the head.

    Args:
        shape: voxels per axis of the file.
        in_channels: channels of the image.

    Example:
        >>> sum(of_head((256, 256, 256), 1).values())
        251658240
    """
    voxels = math.prod(shape)
    return {"head and its copies": COPIES * in_channels * voxels * FLOAT, "label maps": LABELS * voxels}


def check_head_fits(shape: Sequence[int], in_channels: int, image: Any, limit: int) -> None:
    """Refuse a head whose volumes do not fit into the memory; there is no path that takes less.

    Args:
        shape: voxels per axis of the file.
        in_channels: channels of the image.
        image: its files, for the message.
        limit: bytes that it may take.

    Raises:
        ValueError: if they do not fit.
    """
    need = sum(of_head(shape, in_channels).values())
    if need > limit:
        raise ValueError(
            f"{files_of(image)[0]} has {tuple(shape)} voxels and would take {format_bytes(need)} of memory where it "
            f"may take {format_bytes(limit)}; resample it to voxels of 1 mm, or give more memory"
        )


def report_head_memory(
    network: nn.Module,
    *,
    device: torch.device | str,
    in_channels: int,
    inference: Sequence[Mapping[str, Any]] = (),
    series: str | None = None,
    **of_crops: Any,
) -> None:
    """Log the expected peak of a run over heads beside what is free, and refuse a head that does not fit.

    Args:
        network: the network.
        device: where it runs.
        in_channels: channels of the image.
        inference: the heads.
        series: SeriesInstanceUID to take from DICOM folders of several.
        **of_crops: the other arguments of :func:`head_bill`.

    Raises:
        ValueError: if the volumes of a head do not fit into the free memory.
    """
    there = available_bytes(torch.device("cpu"))
    largest: Shape = (0, 0, 0)
    for case in inference:
        shape = read_grid(case["image"], series).shape
        check_head_fits(shape, in_channels, case["image"], there)
        largest = max(largest, shape, key=math.prod)
    try:
        bill = head_bill(bare(network), largest, in_channels=in_channels, device=torch.device(device), **of_crops)
    except Exception as error:  # networks of users may do anything in their forward pass
        logger.info("there is no memory bill: %s", " ".join(str(error).split())[:200])
        return
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in bill.items())
    total = format_bytes(sum(bill.values()))
    logger.info("the largest head, %s voxels, is expected to take %s (%s)", largest, total, parts)
