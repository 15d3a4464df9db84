"""Resizing by size, never by scale, so that blocks work on odd maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, size: list[int]) -> Tensor:
    """Interpolate linearly to a spatial size (bilinear in 2D, trilinear in 3D, corners not aligned).

    Args:
        x: ``(B, C, *spatial)``.
        size: the spatial size of the result, in voxels.

    Shape:
        ``(B, C, *spatial)`` to ``(B, C, *size)``.

    Example:
        >>> resize(torch.zeros(1, 2, 3, 4), [5, 6]).shape
        torch.Size([1, 2, 5, 6])
    """
    return F.interpolate(x, size=size, mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=False)


def crop(x: Tensor, size: list[int]) -> Tensor:
    """Keep the first ``size`` voxels of each axis (a view, in an exported graph a copy).

    A transposed convolution by strides s places its voxel j on the voxels s j and after of the finer grid, so what a
    strided convolution rounded up is too much at the end.

    Args:
        x: ``(B, C, *spatial)``.
        size: the spatial size of the result, in voxels, at most that of ``x``.

    Shape:
        ``(B, C, *spatial)`` to ``(B, C, *size)``.

    Example:
        >>> crop(torch.zeros(1, 2, 4, 4), [3, 4]).shape
        torch.Size([1, 2, 3, 4])
    """
    for axis, length in enumerate(size):
        if not torch.jit.is_scripting() and torch.compiler.is_compiling():
            # Whether a slice is the whole, and so contiguous, would be a condition on the sizes of an exported graph.
            x = x.index_select(axis + 2, torch.arange(length, device=x.device))
        else:
            x = x.narrow(axis + 2, 0, length)
    return x
