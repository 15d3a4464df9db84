"""Learned positions that fit any grid (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from custom_networks.blocks.resize import resize
from custom_networks.checks import check_spatial_dims, per_axis


class PositionEmbedding(nn.Module):
    r"""Add a learned vector to every token, its table resized linearly to the grid of the tokens.

    .. math:: y(p) = x(p) + (\uparrow_S E)(p)

    with the table :math:`E` kept on a reference grid and :math:`\uparrow_S` the linear interpolation to the grid S of
    x, per axis, voxel centres on voxel centres. On the reference grid itself the table is added as it is::

        table E (1, C, *grid) -> resize -> (1, C, *S) -+
        x (B, C, *S) ----------------------------------+-> y (B, C, *S)

    Differs from the paper: the paper resizes its table bilinearly when the image size changes after pre-training; here
    it happens in every forward pass, in two or three dimensions.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the tokens.
        token_grid: reference grid in tokens, usually that of the training patch: one integer, or one per axis.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or the grid does not have that many positive sizes.

    Example:
        >>> PositionEmbedding(3, 8, (4, 4, 4))(torch.zeros(1, 8, 3, 5, 2)).shape
        torch.Size([1, 8, 3, 5, 2])

    Cost:
        Parameters ``C prod(token_grid)``; one map of the size of a single sample in memory.

    References:
        A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929, section 3.2.
    """

    def __init__(self, spatial_dims: int, in_channels: int, token_grid: int | Sequence[int]) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        self.table = nn.Parameter(torch.zeros(1, in_channels, *per_axis(token_grid, spatial_dims, "token_grid")))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return x + resize(self.table, list(x.shape[2:]))
