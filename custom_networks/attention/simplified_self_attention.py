"""Multi-head self-attention without projections of queries, keys and values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.checks import check_divides, check_spatial_dims


class SimplifiedSelfAttention(nn.Module):
    r"""Give every voxel a weighted mean over all voxels, weights from the dot products of the input itself.

    .. math:: y_i = W_o\,\mathrm{concat}_h \sum_j \mathrm{softmax}_j\Bigl(\frac{x_{hi}^\top x_{hj}}{\sqrt d}\Bigr)
              x_{hj} + b_o

    where :math:`x_h` is the h-th of H runs of :math:`d = C / H` channels::

        x (B, C, *S) -> split (B, H, N, d) -+- softmax -> (B, H, N, N) -+
                                            +---------------------------+-> (B, N, C), output -> y (B, C, *S)

    The (N, N) map is never stored in training: ``scaled_dot_product_attention`` computes it in blocks.

    Differs from the paper: it has none of its own. It is the attention of Vaswani et al. with the identity for the
    projections of queries, keys and values; with one head it is, up to the scale of the logits, the Gaussian form of
    the non-local operation of Wang et al. The map is symmetric before the softmax, and nothing in it is learned.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        num_heads: number H of heads, a divisor of C.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or ``num_heads`` does not divide C.

    Example:
        >>> SimplifiedSelfAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``(C+1)C``. Time 2·N²·C with N voxels, which is sensible up to some 24x24x24 voxels; memory O(N) with
        a fused kernel. ``attention_map`` stores H·N² values: 64 MiB per head at 16x16x16.

    References:
        A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762. X. Wang, R. Girshick, A. Gupta,
        K. He, "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, num_heads: int = 4) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        self.heads = [num_heads, check_divides(in_channels, num_heads, "num_heads")]
        self.output = nn.Linear(in_channels, in_channels)

    def _split(self, x: Tensor) -> Tensor:
        """Return ``(B, C, *spatial)`` as ``(B, H, N, d)`` with d the fastest axis, which the fused kernels require."""
        return x.flatten(2).transpose(1, 2).contiguous().unflatten(2, self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        heads = self._split(x)
        y = F.scaled_dot_product_attention(heads, heads, heads)
        y = self.output(y.transpose(1, 2).flatten(2))
        return y.transpose(1, 2).contiguous().unflatten(2, list(x.shape[2:]))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the softmax maps ``(B, H, N, N)``: queries in rows, keys in columns, voxels in raster order.

        Args:
            x: ``(B, C, *spatial)``.
        """
        heads = self._split(x)
        return torch.softmax(heads @ heads.transpose(2, 3) * self.heads[1] ** -0.5, dim=-1)
