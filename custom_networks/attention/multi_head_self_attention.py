"""Multi-head self-attention over all voxels (Vaswani et al. 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.checks import check_heads, check_spatial_dims


class MultiHeadSelfAttention(nn.Module):
    r"""Give every voxel a weighted mean over all voxels, once per head, weights from scaled dot products.

    .. math:: y_i = W_o\,\mathrm{concat}_h \sum_j \mathrm{softmax}_j\Bigl(\frac{q_{hi}^\top k_{hj}}{\sqrt d}\Bigr)
              v_{hj} + b_o, \qquad q_{hi} = W^q_h x_i + b^q_h

    and likewise for :math:`k` and :math:`v`, with :math:`H` heads of width :math:`d`::

        x (B, C, *S) -+- query -> (B, H, N, d) -+
                      +- key ---> (B, H, N, d) -+- softmax -> (B, H, N, N) -+
                      +- value -> (B, H, N, d) ------------------------------+-> (B, N, H d), output -> y (B, C, *S)

    The (N, N) map is never stored in training: ``scaled_dot_product_attention`` computes it in blocks.

    Differs from the paper: the projections have biases, as in most implementations. There is no position encoding,
    which the paper adds to the tokens before their first attention: permuting the voxels permutes the output.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        num_heads: number H of heads; divides C unless ``head_channels`` is given.
        head_channels: width d of a head; ``None`` takes C / H.
        dropout: probability, 0 to 1, of dropping an entry of the output (the paper's residual dropout).

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``num_heads`` does not divide C (or is below 1), or
            ``head_channels`` is below 1.

    Example:
        >>> MultiHeadSelfAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``3(C+1)Hd + (Hd+1)C``. Time 2·N²·H·d with N voxels, which is sensible up to some 24x24x24 voxels;
        memory O(N) with a fused kernel. ``attention_map`` stores H·N² values: 64 MiB per head at 16x16x16.

    References:
        A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        num_heads: int = 4,
        head_channels: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        self.heads = check_heads(in_channels, num_heads, head_channels)
        inner_channels = self.heads[0] * self.heads[1]
        self.query = nn.Linear(in_channels, inner_channels)
        self.key = nn.Linear(in_channels, inner_channels)  # shipped weights hold the bias, which cancels in the softmax
        self.value = nn.Linear(in_channels, inner_channels)
        self.output = nn.Linear(inner_channels, in_channels)
        self.dropout = nn.Dropout(dropout)

    def _split(self, tokens: Tensor) -> Tensor:
        """Return ``(B, N, H d)`` as ``(B, H, N, d)`` with d the fastest axis, which the fused kernels require."""
        return tokens.unflatten(2, self.heads).transpose(1, 2)

    def _queries_keys(self, tokens: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
        """Return queries and keys ``(B, H, N, d)`` of the tokens of a grid of that size."""
        return self._split(self.query(tokens)), self._split(self.key(tokens))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        tokens = x.flatten(2).transpose(1, 2)
        queries, keys = self._queries_keys(tokens, list(x.shape[2:]))
        y = F.scaled_dot_product_attention(queries, keys, self._split(self.value(tokens)))
        y = self.dropout(self.output(y.transpose(1, 2).flatten(2)))
        return y.transpose(1, 2).contiguous().unflatten(2, list(x.shape[2:]))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the softmax maps ``(B, H, N, N)``: queries in rows, keys in columns, voxels in raster order.

        Args:
            x: ``(B, C, *spatial)``.
        """
        queries, keys = self._queries_keys(x.flatten(2).transpose(1, 2), list(x.shape[2:]))
        return torch.softmax(queries @ keys.transpose(2, 3) * self.heads[1] ** -0.5, dim=-1)
