"""Position attention and channel attention, added (DANet, Fu et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.checks import check_reduction, check_spatial_dims


class DualAttention(nn.Module):
    r"""Add a mean over all voxels, weighted by their likeness, and a mean over all channels, weighted by theirs.

    .. math:: y = \Bigl(\alpha \sum_j \mathrm{softmax}_j\bigl(q_i^\top k_j\bigr)\,v_j + x_i\Bigr)
              + \Bigl(\beta \sum_{c'} \mathrm{softmax}_{c'}\bigl(\langle x_c, x_{c'} \rangle\bigr)\,x_{c'} + x_c\Bigr)

    where :math:`\langle\cdot,\cdot\rangle` sums over all voxels and neither logits are scaled. N voxels::

        x (B, C, *S) -+- query, key (B, N, K) -> softmax (B, N, N) -+
                      +- value (B, N, C) ---------------------------+-> * alpha, + x -+
                      +- x x^T -> softmax (B, C, C) -+                                +-> y (B, C, *S)
                      +------------------------------+-> * beta, + x -----------------+

    The (N, N) map is never stored in training: ``scaled_dot_product_attention`` computes it in blocks.

    Differs from the paper: alpha and beta start at 1, not at 0, because the start as the identity belongs to where the
    module is inserted. The convolutions before each part and after the sum are not part of the module. Keys are
    narrower than the input by default, as in the released code (``reduction=1`` is the paper's text); that code's
    channel logits, largest minus logit, which prefer *unlike* channels, are not used. The channel logits grow with N:
    on large grids the softmax picks one channel.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        reduction: K = max(1, C // reduction), the width of queries and keys.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or ``reduction`` is below 1.

    Example:
        >>> DualAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``(2C+1)K + (C+1)C + 2``. Time 2·N²·C + 2·N·C² with N voxels, which is sensible up to some 24x24x24
        voxels; memory O(N + C²) with a fused kernel. ``attention_map`` stores N² values: 64 MiB at 16x16x16.

    References:
        J. Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, arXiv:1809.02983. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
        That version adds a scale and an output projection, and lacks alpha and the added input.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        self.position = _Position(in_channels, check_reduction(in_channels, reduction))
        self.channel = _Channel()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return self.position(x) + self.channel(x)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the softmax ``(B, N, N)`` of the position part: queries in rows, voxels in raster order.

        ``channel.attention_map(x)`` returns that of the channel part, ``(B, C, C)``.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return self.position.attention_map(x)


class _Position(nn.Module):
    """Add to every voxel alpha times a weighted mean over all voxels."""

    def __init__(self, in_channels: int, key_channels: int) -> None:
        super().__init__()
        self.query = nn.Linear(in_channels, key_channels)
        self.key = nn.Linear(in_channels, key_channels, bias=False)  # a bias would cancel in the softmax
        self.value = nn.Linear(in_channels, in_channels)
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        queries, keys, values = self.query(tokens), self.key(tokens), self.value(tokens)
        # The fused kernels want equal widths; zero channels do not change the logits.
        margin = [0, values.shape[2] - keys.shape[2]]
        y = F.scaled_dot_product_attention(
            F.pad(queries, margin).unsqueeze(1), F.pad(keys, margin).unsqueeze(1), values.unsqueeze(1), scale=1.0
        ).squeeze(1)
        return self.alpha * y.transpose(1, 2).unflatten(2, list(x.shape[2:])) + x

    def attention_map(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return torch.softmax(self.query(tokens) @ self.key(tokens).transpose(1, 2), dim=-1)


class _Channel(nn.Module):
    """Add to every channel beta times a weighted mean over all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention_map(x) @ x.flatten(2)
        return self.beta * y.unflatten(2, list(x.shape[2:])) + x

    def attention_map(self, x: Tensor) -> Tensor:
        channels = x.flatten(2)
        # Dividing by N before the sum, and subtracting the largest before multiplying again, suits half precision.
        scaled = channels * channels.shape[2] ** -0.5
        likeness = scaled @ scaled.transpose(1, 2)
        return torch.softmax((likeness - likeness.amax(2, keepdim=True)) * channels.shape[2], dim=-1)
