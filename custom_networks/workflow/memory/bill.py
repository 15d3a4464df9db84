"""The memory bill: how many bytes training and inference take at their peak, and how many there are.

Every bill is a dictionary from what takes memory to its bytes, at the moment when most is taken; the sum of its values
is the expected peak beyond what the process holds before it starts. Volumes are float32.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from custom_networks.workflow.infer.windows import slab_axis, window_and_batch
from custom_networks.workflow.memory.fake_run import peak_bytes

FLOAT = 4
# AdamW keeps two moments of every parameter
MOMENTS = 2
# what the allocator cannot give back and kernels load at their first use; measured beside the tensors of these networks
# on a CPU. On a GPU it has not been measured, and a training's bill is of its tensors alone
ALLOCATOR_SHARE = 0.15
KERNELS = 32 * 2**20
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}

Bill = dict[str, int]


def parse_bytes(text: str) -> int:
    """Return a number of bytes from a text such as 8GB or 512MiB.

    Args:
        text: a positive number with B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024) or nothing.

    Raises:
        ValueError: if the text is anything else.

    Example:
        >>> parse_bytes("8GB"), parse_bytes("1.5 GiB")
        (8000000000, 1610612736)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", str(text), re.IGNORECASE)
    size = int(float(match[1]) * UNITS[(match[2] or "").upper()]) if match else 0
    if size < 1:
        raise ValueError(f"memory must be a size such as 8GB or 512MB, got {text!r}; give a number and a unit")
    return size


def format_bytes(size: float) -> str:
    """Return a number of bytes for people.

    Args:
        size: bytes.

    Example:
        >>> format_bytes(8_590_000_000), format_bytes(35e6)
        ('8.6 GB', '35 MB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}" if size < 10 * factor else f"{size / factor:.0f} {unit}"
    return f"{size / 1000:.0f} kB"


def _number_in(path: str) -> int | None:
    """Read a file that holds one number, ``None`` where there is no such file or no number (no limit)."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def available_bytes(device: torch.device) -> int:
    """Return how much memory is free: of the GPU, or of this machine and of the control group of the process.

    Args:
        device: where the network runs.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():  # counts what the file cache would give back
        free = int(re.search(r"MemAvailable:\s+(\d+)", meminfo.read_text())[1]) * 1024  # type: ignore[index]
    groups = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
    for limit_file, used_file in groups:
        limit, used = _number_in(f"/sys/fs/cgroup/{limit_file}"), _number_in(f"/sys/fs/cgroup/{used_file}")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used))
    return free


def _with_overhead(bill: Bill, device: torch.device | None = None) -> Bill:
    share = 0.0 if device is not None and device.type == "cuda" else ALLOCATOR_SHARE
    return {**bill, "allocator and kernels": int(share * sum(bill.values())) + KERNELS}


def _largest(stages: Sequence[Bill]) -> Bill:
    return _with_overhead(max(stages, key=lambda stage: sum(stage.values())))


def _parameter_bytes(network: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)


def training_bill(
    network: nn.Module,
    *,
    in_channels: int,
    patch_size: Sequence[int],
    batch_size: int,
    amp: bool = True,
    device: torch.device | None = None,
) -> Bill:
    """Return what one step of training takes on the device of the network.

    Args:
        network: the network, unchanged by this.
        in_channels: channels of its input.
        patch_size: voxels per axis.
        batch_size: patches per step.
        amp: the knob of that name.
        device: the device to train on, or ``None`` for the CPU.

    Returns:
        The optimizer's moments; the batch; parameters, gradients and activations, with the peak of everything in
        between.

    Raises:
        RuntimeError: if the network needs the values of a tensor, so that it cannot be run without any.

    Example:
        >>> bill = training_bill(nn.Conv3d(1, 2, 1), in_channels=1, patch_size=(64, 64, 64), batch_size=2)
        >>> bill["batch"]
        4194304
    """
    device = device or torch.device("cpu")
    voxels = batch_size * math.prod(patch_size)
    shape = (batch_size, in_channels, *patch_size)
    batch = (in_channels + 1) * voxels * FLOAT
    step = peak_bytes(network, shape, training=True, amp=amp, device=device)
    # the batch is alive during the step, and on its way from the data loader a second time
    return _with_overhead(
        {
            "optimizer": MOMENTS * _parameter_bytes(network),
            "batch": batch,
            "parameters, gradients and activations": step,
        },
        device,
    )


def training_bytes(
    network: nn.Module,
    *,
    in_channels: int,
    patch_size: Sequence[int],
    batch_size: int,
    amp: bool = True,
    device: torch.device | None = None,
) -> int:
    """Return the sum of :func:`training_bill`.

    Args:
        network: the network.
        in_channels: channels of its input.
        patch_size: voxels per axis.
        batch_size: patches per step.
        amp: the knob of that name.
        device: the device to train on, or ``None`` for the CPU.
    """
    bill = training_bill(
        network, in_channels=in_channels, patch_size=patch_size, batch_size=batch_size, amp=amp, device=device
    )
    return sum(bill.values())


def cached_bytes(
    training: Sequence[Sequence[int]],
    validation: Sequence[Sequence[int]],
    in_channels: int,
    cache_rate: float,
) -> int:
    """Return what the cached images and labels take in main memory.

    Args:
        training: voxels per axis of every training image.
        validation: voxels per axis of every validation image.
        in_channels: channels of an image.
        cache_rate: share of the cases that is cached, 0 to 1.

    Example:
        >>> cached_bytes([(10, 10, 10)] * 4, [], in_channels=1, cache_rate=0.5)
        16000
    """
    kept = [shape for cases in (training, validation) for shape in cases[: int(len(cases) * cache_rate)]]
    return sum(math.prod(shape) for shape in kept) * (in_channels + 1) * FLOAT


def inference_bill(
    network: nn.Module,
    shape: Sequence[int],
    *,
    in_channels: int,
    out_channels: int,
    patch_size: Sequence[int],
    original_shape: Sequence[int] | None = None,
    one_hot: bool = False,
    low_memory: bool = False,
    sw_batch_size: int = 1,
    amp: bool = True,
    device: torch.device | None = None,
) -> Bill:
    """Return what the segmentation of one image takes at its worst moment.

    That is one of: resampling the image, running the windows, and bringing the result back to the grid of the file.

    Args:
        network: the network, unchanged by this.
        shape: voxels per axis at the network's spacing.
        in_channels: channels of the image.
        out_channels: classes.
        patch_size: window in voxels.
        original_shape: voxels per axis of the file if it has to be resampled, or ``None`` if not.
        one_hot: whether result and label are compared afterwards (validation, evaluation).
        low_memory: the knob of that name.
        sw_batch_size: windows per forward pass.
        amp: the knob of that name.
        device: the device to run on, or ``None`` for the CPU.

    Raises:
        RuntimeError: if the network needs the values of a tensor, so that it cannot be run without any.

    Example:
        >>> net = nn.Conv3d(1, 16, 1)
        >>> sizes = {"in_channels": 1, "out_channels": 16, "patch_size": (32, 32, 32)}
        >>> normal = inference_bill(net, (512, 512, 512), **sizes)
        >>> low = inference_bill(net, (512, 512, 512), low_memory=True, **sizes)
        >>> format_bytes(sum(normal.values())), format_bytes(sum(low.values()))
        ('30 GB', '1.9 GB')
    """
    window, batch = window_and_batch(network, patch_size, shape, sw_batch_size)
    inputs = (batch, in_channels, *window)
    forward = peak_bytes(network, inputs, training=False, amp=amp, device=device or torch.device("cpu"))
    # their logits once more: the sum over flips, or the product with the weights
    name = "network on one window" if batch == 1 else f"network on {batch} windows"
    at_window = {name: forward + batch * out_channels * math.prod(window) * FLOAT}
    return volume_bill(
        shape,
        in_channels=in_channels,
        out_channels=out_channels,
        window=window,
        at_window=at_window,
        original_shape=original_shape,
        one_hot=one_hot,
        low_memory=low_memory,
    )


def volume_bill(
    shape: Sequence[int],
    *,
    in_channels: int,
    out_channels: int,
    window: Sequence[int],
    at_window: Bill,
    original_shape: Sequence[int] | None = None,
    one_hot: bool = False,
    low_memory: bool = False,
) -> Bill:
    """Return :func:`inference_bill` for what a window is known to take; with nothing for it, that of the volumes.

    Args:
        shape: voxels per axis at the network's spacing.
        in_channels: channels of the image.
        out_channels: classes.
        window: window in voxels.
        at_window: what the network takes on the windows of one forward pass.
        original_shape: voxels per axis of the file if it has to be resampled, or ``None`` if not.
        one_hot: whether result and label are compared afterwards (validation, evaluation).
        low_memory: the knob of that name.
    """
    padded = [max(size, least) for size, least in zip(shape, window, strict=True)]
    voxels, file_voxels = math.prod(shape), math.prod(original_shape or shape)
    resampled = original_shape is not None
    image = {"image": in_channels * max(voxels, file_voxels) * FLOAT}
    resampling = FLOAT if low_memory else 2 * FLOAT  # Spacingd computes in float64
    load = {"image, its copies and their grid": in_channels * (voxels + 2 * file_voxels) * FLOAT}
    if resampled:
        load["grid of positions and volumes to resample"] = resampling * (
            3 * voxels + in_channels * (voxels + file_voxels)
        )
    volumes = out_channels
    logits = out_channels * math.prod(padded) * FLOAT
    windows = {**image, "logits": logits, "weights": math.prod(padded) * FLOAT, **at_window}
    back = {**image, "logits": logits, "probabilities": out_channels * voxels * FLOAT}
    if low_memory:
        volumes = 1
        longest = slab_axis(padded, window)
        slab = math.prod(padded) // padded[longest] * window[longest]
        windows = {**image, "logits of a slab": (out_channels + 1) * slab * FLOAT, "label map": voxels, **at_window}
        back = {**image, "label map": voxels}
    if resampled:
        back["grid of positions and volumes to resample"] = max(
            resampling * (3 * file_voxels + volumes * (voxels + file_voxels)),
            (resampling + FLOAT) * volumes * file_voxels,
        )
    else:
        back["result on the grid of the file"] = volumes * file_voxels * FLOAT
    stages = [load, windows, back]
    if one_hot:
        compared = {**image, "result and label, one-hot": 4 * out_channels * file_voxels * FLOAT}
        if not low_memory:
            compared["logits"] = logits
        stages.append(compared)
    return _largest(stages)
