"""Multi-head self-attention along one axis at a time (Ho et al. 2019)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.checks import check_heads, check_spatial_dims


class AxialAttention(nn.Module):
    r"""Attend along every axis by itself and add the results, or feed each axis with the result of the one before.

    .. math:: y = \sum_a A_a(x) \quad\text{or}\quad y = A_3(A_2(A_1(x))), \qquad
              A_a(x)_i = W^o_a\,\mathrm{concat}_h \sum_{j \in \ell_a(i)}
              \mathrm{softmax}_j\Bigl(\frac{q_{ahi}^\top k_{ahj}}{\sqrt d}\Bigr) v_{ahj} + b^o_a

    where :math:`\ell_a(i)` is the line through voxel i along axis a, and every axis has its own weights. For an axis of
    length L, with N voxels, H heads of width d::

        x (B, C, *S) -> lines (B N/L, L, C) -> query, key, value (B N/L, H, L, d) -> softmax (B N/L, H, L, L)
        -> (B N/L, L, H d), output -> (B, C, *S)

    Differs from the paper: one such sum stands for the paper's stack of residual layers, each along one axis; the sum
    is the form of the implementation that the reference outputs come from. There is no position encoding: reordering
    the planes across an axis reorders the output.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        num_heads: number H of heads; divides C unless ``head_channels`` is given.
        head_channels: width d of a head; ``None`` takes C / H.
        sequential: feed each axis with the result of the one before instead of adding.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``num_heads`` does not divide C (or is below 1), or
            ``head_channels`` is below 1.

    Example:
        >>> AxialAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``spatial_dims · (3CHd + (Hd+1)C)``. Time 2·N·H·d times the sum L of the axes' lengths, which is
        sensible up to some 96x96x96 voxels; memory O(N) per axis with a fused kernel. ``attention_map`` stores H·N·L
        values: 192 MiB per head at 64x64x64.

    References:
        J. Ho, N. Kalchbrenner, D. Weissenborn, T. Salimans, "Axial Attention in Multidimensional Transformers", 2019,
        arXiv:1912.12180. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch
        (its copy of https://github.com/lucidrains/axial-attention).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        num_heads: int = 4,
        head_channels: int | None = None,
        sequential: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        heads = check_heads(in_channels, num_heads, head_channels)
        self.sequential = sequential
        self.axes = nn.ModuleList(_Lines(in_channels, heads, axis) for axis in range(spatial_dims))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        tokens = x.movedim(1, -1)
        y = tokens
        for i, lines in enumerate(self.axes):
            update = lines(y if self.sequential else tokens)
            y = update if self.sequential or i == 0 else y + update
        return y.movedim(-1, 1).contiguous()

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the softmax of every axis, one after the other: ``(B, H, *S, L)``, L the sum of the axes' lengths.

        Args:
            x: ``(B, C, *spatial)``.
        """
        tokens = x.movedim(1, -1)
        maps = []
        for lines in self.axes:
            maps.append(cast(_Lines, lines).attention_map(tokens))
            tokens = lines(tokens) if self.sequential else tokens
        return torch.cat(maps, dim=-1).movedim(-2, 1)


class _Lines(nn.Module):
    """Multi-head self-attention along the lines of one spatial axis of ``(B, *S, C)``."""

    def __init__(self, in_channels: int, heads: list[int], axis: int) -> None:
        super().__init__()
        self.axis = axis + 1
        self.heads = heads
        inner_channels = heads[0] * heads[1]
        self.query_key_value = nn.Linear(in_channels, 3 * inner_channels, bias=False)
        self.output = nn.Linear(inner_channels, in_channels)

    def _split(self, lines: Tensor) -> list[Tensor]:
        """Return queries, keys and values ``(lines, H, L, d)``, d the fastest axis, which the fused kernels require."""
        parts = self.query_key_value(lines.flatten(0, -3)).chunk(3, dim=-1)
        return [part.unflatten(2, self.heads).transpose(1, 2) for part in parts]

    def forward(self, x: Tensor) -> Tensor:
        lines = x.transpose(self.axis, -2)
        queries, keys, values = self._split(lines)
        y = F.scaled_dot_product_attention(queries, keys, values)
        y = self.output(y.transpose(1, 2).flatten(2))
        return y.reshape(lines.shape).transpose(self.axis, -2)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the softmax ``(B, *S, H, L)``."""
        lines = x.transpose(self.axis, -2)
        queries, keys, _ = self._split(lines)
        weights = torch.softmax(queries @ keys.transpose(2, 3) * self.heads[1] ** -0.5, dim=-1)
        weights = weights.transpose(1, 2).reshape(*lines.shape[:-1], -1)
        return weights.transpose(self.axis, -2).unflatten(-1, (self.heads[0], -1))
