"""Sliding windows that hold the logits of one slab of the volume at a time and keep a label map only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.utils import BlendMode
from torch import Tensor
from torch.nn import functional as F


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


def largest(logits: Tensor) -> Tensor:
    """Return the class of the largest logit.

    Args:
        logits: ``(K, *S)``.
    """
    return logits.softmax(0).argmax(0)


def label_map(
    inputs: Tensor,
    predict: Callable[[Tensor], Tensor],
    *,
    roi_size: Sequence[int],
    sw_batch_size: int,
    overlap: float,
    mode: str,
    to_classes: Callable[[Tensor], Tensor] = largest,
) -> Tensor:
    """Return the classes that follow from the weighted mean of the windows' logits, a slab of the volume at a time.

    Windows, weights and padding are those of :func:`monai.inferers.sliding_window_inference`. The windows are run in
    the order of one axis, so the logits of a plane are complete once they start behind it; it is then reduced to class
    indices and its memory serves a later plane. With window r and image n along that axis, the logits take r / n of
    what they take whole.

    Args:
        inputs: ``(B, C, *S)``.
        predict: from windows ``(N, C, *roi_size)`` to logits ``(N, K, *roi_size)``.
        roi_size: window in voxels.
        sw_batch_size: windows per forward pass.
        overlap: share of a window that the next one covers, 0 to less than 1.
        mode: "constant" or "gaussian" weights within a window.
        to_classes: from the logits ``(K, *S)`` of a plane to its classes ``(*S)``.

    Shape:
        ``(B, 1, *S)``, uint8.

    Raises:
        ValueError: if there are more than 256 classes.
    """
    size = inputs.shape[2:]
    padded = [max(n, r) for n, r in zip(size, roi_size, strict=True)]
    before = [(p - n) // 2 for p, n in zip(padded, size, strict=True)]
    pads = [
        side
        for n, p, b in zip(reversed(size), reversed(padded), reversed(before), strict=True)
        for side in (b, p - n - b)
    ]
    inputs = F.pad(inputs, pads) if any(pads) else inputs
    interval = [r if r == p else max(1, int(r * (1 - overlap))) for r, p in zip(roi_size, padded, strict=True)]
    axis = slab_axis(padded, roi_size)
    windows = sorted(dense_patch_slices(padded, roi_size, interval), key=lambda window: window[axis].start)
    weights = compute_importance_map(
        tuple(roi_size), mode=BlendMode(mode), sigma_scale=0.125, device=inputs.device, dtype=inputs.dtype
    )
    labels = [
        _labels_of_one(image, predict, windows, axis, weights, sw_batch_size, to_classes)
        for image in inputs.as_subclass(Tensor)
    ]
    inner = tuple(slice(b, b + n) for b, n in zip(before, size, strict=True))
    return torch.stack([one[inner] for one in labels])[:, None]


def _labels_of_one(
    image: Tensor,
    predict: Callable[[Tensor], Tensor],
    windows: Sequence[tuple[slice, ...]],
    axis: int,
    weights: Tensor,
    sw_batch_size: int,
    to_classes: Callable[[Tensor], Tensor],
) -> Tensor:
    """Run the windows of one image ``(C, *S)`` in the order of their start along an axis."""
    size, depth = image.shape[1:], weights.shape[axis]
    # the axis of the slab comes first in what follows
    labels = torch.empty(size, dtype=torch.uint8, device=image.device)
    planes = labels.movedim(axis, 0)
    slab_size = [depth if a == axis else n for a, n in enumerate(size)]
    total = torch.zeros(slab_size, dtype=image.dtype, device=image.device)  # sum of the weights
    logits = total[:0]  # as long as the number of classes is unknown
    first = 0  # plane of the volume whose place in the slab, as that of every plane, is its number modulo depth

    def finish(stop: int) -> None:
        for plane in range(first, stop):
            weighted = logits.select(axis + 1, plane % depth)
            weight = total.select(axis, plane % depth)
            planes[plane] = to_classes(weighted / weight)
            weighted.zero_()
            weight.zero_()

    for start, group in groupby(windows, key=lambda window: window[axis].start):
        finish(start)
        first = start
        places = torch.arange(start, start + depth, device=image.device) % depth
        batch = list(group)
        for i in range(0, len(batch), sw_batch_size):
            some = batch[i : i + sw_batch_size]
            result = predict(torch.stack([image[(slice(None), *window)] for window in some]))
            if result.shape[1] > 256:
                raise ValueError(f"{result.shape[1]} classes do not fit a label map of bytes; set low_memory to false")
            if logits.shape[0] != result.shape[1]:
                logits = torch.zeros((result.shape[1], *slab_size), dtype=image.dtype, device=image.device)
            for window, one in zip(some, result, strict=True):
                inside = tuple(slice(None) if a == axis else part for a, part in enumerate(window))
                logits[(slice(None), *inside)].index_add_(axis + 1, places, one * weights)
                total[inside].index_add_(axis, places, weights)
    finish(size[axis])
    return labels
