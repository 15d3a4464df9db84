"""Resizing by size, never by scale, so that blocks work on odd maps."""

from __future__ import annotations

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
