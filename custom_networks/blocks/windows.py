"""Cutting a map into a grid of windows that share one batch, and putting them together again."""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.blocks.resize import crop


def _reshaped(x: Tensor, shape: list[int]) -> Tensor:
    """Return the values in another shape.

    By way of a single axis: between two shapes an exported graph would ask which axes go together, a batch of one among
    them, and take the answer as given.
    """
    return x.contiguous().flatten().view(shape)


def fold_windows(x: Tensor, counts: list[int], size: list[int]) -> Tensor:
    """Cut a map into windows, the window being the slowest index of the batch.

    Args:
        x: ``(B, C, *S)``; its far border is repeated to fill the last windows.
        counts: windows per axis, in raster order in the batch.
        size: voxels of a window per axis; ``counts * size`` is at least S.

    Shape:
        ``(B, C, *S)`` to ``(G B, C, *size)``, G the product of ``counts``.

    Example:
        >>> fold_windows(torch.arange(4.0).view(1, 1, 1, 4), [1, 2], [1, 2])[:, 0, 0]
        tensor([[0., 1.],
                [2., 3.]])
    """
    y = x
    for axis in range(len(size) - 1, -1, -1):
        count, window = counts[axis], size[axis]
        first = window * torch.arange(count, device=x.device)
        index = (first[:, None] + torch.arange(window, device=x.device)).clamp(max=x.shape[2 + axis] - 1)
        y = y.index_select(2 + axis, index.flatten()).unflatten(2 + axis, [count, window])
    y = y.permute(2, 4, 0, 1, 3, 5) if len(size) == 2 else y.permute(2, 4, 6, 0, 1, 3, 5, 7)
    shape = [x.shape[0], x.shape[1]]
    for count in counts:
        shape[0] *= count
    shape.extend(size)
    return _reshaped(y, shape)


def unfold_windows(windows: Tensor, counts: list[int], size: list[int]) -> Tensor:
    """Undo ``fold_windows``.

    Args:
        windows: ``(G B, C, *w)``.
        counts: windows per axis; G is their product.
        size: spatial size S of the map, at most ``counts * w``.

    Shape:
        ``(G B, C, *w)`` to ``(B, C, *S)``.

    Example:
        >>> unfold_windows(torch.arange(4.0).view(2, 1, 1, 2), [1, 2], [1, 3])
        tensor([[[[0., 1., 2.]]]])
    """
    samples = windows.shape[0]
    shape: list[int] = []
    for count in counts:
        samples = samples // count
        shape.append(count)
    shape.append(samples)
    shape.extend(windows.shape[1:])
    y = _reshaped(windows, shape)
    if len(size) == 2:
        y = y.permute(2, 3, 0, 4, 1, 5).flatten(4, 5).flatten(2, 3)
    else:
        y = y.permute(3, 4, 0, 5, 1, 6, 2, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return crop(y, size)
