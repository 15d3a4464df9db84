"""Sliding windows: where they lie, and one loop that runs them and takes the weighted mean of their logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from monai.data.utils import dense_patch_slices
from torch import Tensor, nn
from torch.nn import functional as F

from custom_networks.workflow.infer.air import box_of, content_of, find_air

Window = tuple[slice, ...]

PLANES = 16
"""Planes that become classes at once: along the last axis, as many numbers as lie beside each other in a cache line."""

NEVER = -1e4
"""Logit of a class that a voxel does not have: its softmax beside 0, and its sigmoid, are 0 in float32 and float16."""


def slab_axis(image_size: Sequence[int], roi_size: Sequence[int]) -> int:
    """Return the axis along which the windows' share of the volume is least, the first of equal ones.

    Args:
        image_size: voxels per axis.
        roi_size: window in voxels.

    Example:
        >>> slab_axis((512, 512, 512), (96, 96, 48))
        2
    """
    return min(range(len(image_size)), key=lambda axis: roi_size[axis] / image_size[axis])


def grow_window(
    roi_size: Sequence[int], image_size: Sequence[int], divisor: Sequence[int], windows: int
) -> tuple[int, ...]:
    """Return a window as large as several together, the axis with the least share of the image growing first.

    Args:
        roi_size: window in voxels.
        image_size: voxels per axis; beyond them, rounded up to the divisor, no axis grows.
        divisor: what the network's input must be divisible by, per axis.
        windows: how many windows it may be as large as.

    Example:
        >>> grow_window((32, 32, 32), (200, 200, 40), (8, 8, 8), windows=8)
        (88, 88, 32)
    """
    size, most = list(roi_size), windows * math.prod(roi_size)
    shapes = list(zip(image_size, divisor, strict=True))
    while True:
        larger = [n + part if n < whole else n for n, (whole, part) in zip(size, shapes, strict=True)]
        fitting = [
            axis for axis, n in enumerate(larger) if n > size[axis] and math.prod(size) // size[axis] * n <= most
        ]
        if not fitting:
            return tuple(size)
        axis = min(fitting, key=lambda a: size[a] / image_size[a])
        size[axis] = larger[axis]


def window_and_batch(
    network: Callable[..., Any], roi_size: Sequence[int], image_size: Sequence[int], sw_batch_size: int
) -> tuple[tuple[int, ...], int]:
    """Return the window in voxels and the number of windows per forward pass for an image.

    Args:
        network: the network, or what distributed training wrapped around it. One whose ``is_local()`` is true, which
            has a ``size_divisor``, too, gets one larger window in place of several.
        roi_size: window in voxels.
        image_size: voxels per axis.
        sw_batch_size: how many windows the network may get at once.

    Example:
        >>> window_and_batch(nn.Identity(), (32, 32, 32), (200, 200, 200), 4)
        ((32, 32, 32), 4)
    """
    bare: Any = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    is_local: Callable[[], bool] | None = getattr(bare, "is_local", None)
    if sw_batch_size == 1 or is_local is None or not is_local():
        return tuple(roi_size), sw_batch_size
    return grow_window(roi_size, image_size, bare.size_divisor, sw_batch_size), 1


def pad_to_window(inputs: Tensor, roi_size: Sequence[int]) -> tuple[Tensor, Window]:
    """Return the images, zeros around axes shorter than the window, and where they lie in what is returned.

    Args:
        inputs: ``(B, C, *S)``.
        roi_size: window in voxels.
    """
    size = inputs.shape[2:]
    before = [max(r - n, 0) // 2 for r, n in zip(roi_size, size, strict=True)]
    after = [max(r - n, 0) - b for r, n, b in zip(roi_size, size, before, strict=True)]
    pads = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    inside = tuple(slice(b, b + n) for b, n in zip(before, size, strict=True))
    return F.pad(inputs, pads) if any(pads) else inputs, inside


def place_windows(box: Window, roi_size: Sequence[int], overlap: float) -> list[Window]:
    """Return the windows of :func:`monai.inferers.sliding_window_inference` in a box, in its order.

    Args:
        box: the part of the image to cover, no axis shorter than the window.
        roi_size: window in voxels.
        overlap: share of a window that the next one covers, 0 to less than 1.
    """
    size = [side.stop - side.start for side in box]
    interval = [r if r == n else max(1, int(r * (1 - overlap))) for r, n in zip(roi_size, size, strict=True)]
    return [
        tuple(slice(side.start + part.start, side.start + part.stop) for side, part in zip(box, window, strict=True))
        for window in dense_patch_slices(size, roi_size, interval)
    ]


def windows_of(image: Tensor, inside: Window, roi_size: Sequence[int], overlap: float, skip_air: bool) -> list[Window]:
    """Return the windows to run for an image: all of them, or those that hold something else than air.

    Those lie over the smallest box with everything but air, as in nnU-Net's cropping, or, along axes where it is
    shorter than a window, around it.

    Args:
        image: ``(C, *S)``, padded to the window.
        inside: where the image lies in it.
        roi_size: window in voxels.
        overlap: share of a window that the next one covers, 0 to less than 1.
        skip_air: the knob of that name.
    """
    size = image.shape[1:]
    real = image[(slice(None), *inside)]
    air = find_air(real) if skip_air else None
    content = None if air is None else content_of(real, air)
    found = None if content is None else box_of(content)
    if content is None or found is None:
        return place_windows(tuple(slice(0, n) for n in size), roi_size, overlap)
    box = []
    # an axis that is padded is as long as the window, so that there the box is all of it
    for held, r, n in zip(found, roi_size, size, strict=True):
        length = max(r, held.stop - held.start)
        middle = (held.start + held.stop) // 2
        start = min(max(0, middle - length // 2), n - length)
        box.append(slice(start, start + length))

    def in_image(window: Window) -> Window:
        return tuple(
            slice(max(w.start - part.start, 0), w.stop - part.start) for w, part in zip(window, inside, strict=True)
        )

    return [window for window in place_windows(tuple(box), roi_size, overlap) if content[in_image(window)].any()]


def _ring(part: slice, depth: int) -> Iterator[tuple[slice, slice]]:
    """Yield where the planes of a window lie in a ring of ``depth`` planes, and which planes of the window they are."""
    first = part.start % depth
    length = min(part.stop - part.start, depth - first)
    yield slice(first, first + length), slice(0, length)
    if length < part.stop - part.start:
        yield slice(0, part.stop - part.start - length), slice(length, None)


def blend(
    image: Tensor,
    predict: Callable[[Tensor], Tensor],
    windows: Sequence[Window],
    weights: Tensor,
    *,
    sw_batch_size: int = 1,
    regions: bool = False,
    to_classes: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the weighted mean of the windows' logits, or, a slab of the volume at a time, the classes they give.

    With ``to_classes`` the windows are run in the order of one axis, so the logits of a plane are complete once they
    start behind it; it is then reduced to class indices and its memory serves a later one. With window r and image n
    along that axis, the logits take r / n of what they take whole. A voxel that no window covers is background.

    Args:
        image: ``(C, *S)``.
        predict: from windows ``(N, C, *roi_size)`` to logits ``(N, K, *roi_size)``; any callable.
        windows: one or more of them.
        weights: of the voxels of a window, all positive.
        sw_batch_size: windows per call of ``predict``.
        regions: whether the classes are regions, without one for the background.
        to_classes: from the logits ``(K, *S)`` of some planes to their classes ``(*S)``; ``None`` for the logits.

    Shape:
        ``(K, *S)`` of the image's type, with ``to_classes`` ``(*S)``, uint8.

    Raises:
        ValueError: if there are more than 256 classes for bytes.
    """
    size = image.shape[1:]
    axis = 0 if to_classes is None else slab_axis(size, weights.shape)
    depth = size[axis] if to_classes is None else weights.shape[axis]
    ring_size = [depth if a == axis else n for a, n in enumerate(size)]
    total = image.new_zeros(ring_size)  # sum of the weights
    logits = image.new_zeros(0)  # as long as the number of classes is unknown
    labels = image.new_zeros(size if to_classes is not None else 0, dtype=torch.uint8)

    def mean(weighted: Tensor, weight: Tensor) -> Tensor:
        weighted /= weight
        if weight.min() == 0:
            uncovered = weight == 0
            weighted.masked_fill_(uncovered, NEVER)
            if not regions:
                weighted[0].masked_fill_(uncovered, 0)
        return weighted

    def finish(first: int, stop: int) -> None:
        if to_classes is None:
            return
        while first < stop:
            place = first % depth
            count = min(stop - first, depth - place, PLANES)
            weighted, weight = logits.narrow(axis + 1, place, count), total.narrow(axis, place, count)
            labels.narrow(axis, first, count).copy_(to_classes(mean(weighted, weight)))
            weighted.zero_()
            weight.zero_()
            first += count

    in_order: Sequence[Window] = windows
    if to_classes is not None:
        in_order = sorted(windows, key=lambda window: window[axis].start)
    done: int | None = None  # no plane before the first window has logits, and the labels begin as background
    for start, group in groupby(in_order, key=lambda window: 0 if to_classes is None else window[axis].start):
        batch = list(group)
        if done is not None:
            finish(done, start)
        done = start
        for i in range(0, len(batch), sw_batch_size):
            some = batch[i : i + sw_batch_size]
            result = predict(torch.stack([image[(slice(None), *window)] for window in some]))
            if to_classes is not None and result.shape[1] > 256:
                raise ValueError(f"{result.shape[1]} classes do not fit a label map of bytes; set low_memory to false")
            if logits.shape[0] == 0:
                logits = image.new_zeros((result.shape[1], *ring_size))
            for window, one in zip(some, result, strict=True):
                weighted = one * weights
                for held, part in _ring(window[axis], depth):
                    place = (*window[:axis], held, *window[axis + 1 :])
                    logits[(slice(None), *place)] += weighted.narrow(axis + 1, part.start, held.stop - held.start)
                    total[place] += weights.narrow(axis, part.start, held.stop - held.start)
    if to_classes is None:
        return mean(logits, total)
    finish(done or 0, size[axis])
    return labels
