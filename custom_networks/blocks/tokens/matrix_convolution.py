"""Convolutions whose kernel is their stride, as one matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.checks import check_spatial_dims, per_axis


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the linear map of every patch; no voxel is in two of them."""
    dims = weight.dim() - 2
    for axis in range(dims):
        x = x.unflatten(2 + 2 * axis, [-1, weight.shape[2 + axis]])
    grid, inside = [2 + 2 * axis for axis in range(dims)], [3 + 2 * axis for axis in range(dims)]
    rows = x.permute([0] + grid + [1] + inside).flatten(dims + 1)  # noqa: RUF005 - TorchScript unpacks no list
    return F.linear(rows, weight.flatten(1), bias).movedim(-1, 1).contiguous()


class _PatchConv2d(nn.Conv2d):
    is_matrix_product = True

    def forward(self, x: Tensor) -> Tensor:
        return _project(x, self.weight, self.bias)


class _PatchConv3d(nn.Conv3d):
    is_matrix_product = True

    def forward(self, x: Tensor) -> Tensor:
        return _project(x, self.weight, self.bias)


def patch_convolution(
    spatial_dims: int, in_channels: int, out_channels: int, patch: int | Sequence[int]
) -> nn.Conv2d | nn.Conv3d:
    r"""Return a convolution whose kernel and stride are a patch, which it computes as a matrix product.

    .. math:: t_p = W\,\mathrm{vec}(x_p) + b

    Parameters and values are those of torch's own convolution. On processors with AMX that one is wrong in bfloat16,
    or writes beyond its memory, where the stride along the last axis is 3 or more (torch 2.13).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the result.
        patch: kernel and stride per axis: one integer, or one per axis.

    Shape:
        ``(B, in_channels, *S)`` to ``(B, out_channels, *S / patch)``; every axis divisible by its entry of ``patch``.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or ``patch`` does not have one positive size per axis.

    Example:
        >>> import torch
        >>> patch_convolution(3, 1, 12, (4, 8, 8))(torch.zeros(1, 1, 8, 24, 16)).shape
        torch.Size([1, 12, 2, 3, 2])

    Cost:
        Parameters ``(prod(patch) in_channels + 1) out_channels``; a copy of the input.
    """
    check_spatial_dims(spatial_dims)
    size: Any = tuple(per_axis(patch, spatial_dims, "patch"))
    if spatial_dims == 2:
        return _PatchConv2d(in_channels, out_channels, size, size)
    return _PatchConv3d(in_channels, out_channels, size, size)
