"""Efficient multi-head self-attention with keys on a reduced grid (EMSA of ResT, Zhang and Yang 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.checks import check_heads, check_spatial_dims, per_axis


class EfficientMultiHeadSelfAttention(nn.Module):
    r"""Give every voxel a weighted mean over a reduced grid, with heads that exchange their logits.

    .. math:: y = \mathrm{concat}_h\Bigl[\mathrm{IN}\Bigl(\mathrm{softmax}_j\Bigl(\sum_g T_{hg}
              \frac{q_{gi}^\top k_{gj}}{\sqrt d}\Bigr)\Bigr) v_h\Bigr] W_o + b_o

    where keys and values come from :math:`\tilde x = \mathrm{LN}(\mathrm{depthwise}(x))`, a convolution with stride
    :math:`s` and kernel :math:`s + 1` in each channel, and IN is an instance norm, without scale and shift, of each
    (N, M) map; N voxels, M voxels of the reduced grid, H heads of width d::

        x (B, C, *S) -+- query ------------------------> (B, H, N, d) -+
                      +- depthwise, LN (B, M, C) -+- key -> (B, H, M, d) -+- T, softmax, IN -> (B, H, N, M) -+
                                                  +- value -> (B, H, M, d) -----------------------------------+
        -> (B, N, H d), output -> y (B, C, *S)

    The rows of the softmax sum to one, so IN(A) v equals A (v - mean v) / std(A): the normalised map is never stored.

    Differs from the paper: every axis of length L gets ceil(L / s) keys; with an odd s one zero more at the far end
    brings in the last voxels, which the paper's padding leaves out if L = 1 mod s. Biases that cancel are left out:
    those of the keys and of T in the softmax, those of the values and of LN in IN. IN has eps 1e-5 as in the paper's
    code. A map over M keys deviates from its mean 1 / M by about that much: with tens of keys IN makes the output grow
    like the root of M, above some hundred keys eps damps it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        num_heads: number H of heads; divides C unless ``head_channels`` is given.
        head_channels: width d of a head; ``None`` takes C / H.
        reduction: stride s of the keys' grid, one number or one per axis; 1 leaves an axis alone, 1 on all axes
            removes convolution and LN.
        transform: whether T and IN are there; they never are with one head.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size. A graph from ``torch.export`` takes any size above
        ``reduction`` on the axes that it leaves open.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``num_heads`` does not divide C (or is below 1), or
            ``head_channels`` or a ``reduction`` is below 1.

    Example:
        >>> EfficientMultiHeadSelfAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``(4C+1)Hd + C``, with a reduction ``(K+2)C`` more (K the number of kernel taps), with the transform
        H² more, without it Hd (and with a reduction C) more. Time N·M·H²·d (2·N·M·H·d without the transform), with M =
        N / s³ in 3D. With the transform training stores one map of H·N·M values and H·N·H·d values for the queries;
        with 4 heads and s = 2 it is sensible up to some 24x24x24 voxels, where the map takes 364 MiB: take a larger
        ``reduction`` on larger grids. Without it memory is O(N) with a fused kernel.

    References:
        Q. Zhang, Y.-B. Yang, "ResT: An Efficient Transformer for Visual Recognition", NeurIPS 2021, arXiv:2105.13677;
        https://github.com/wofmanaf/ResT. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        num_heads: int = 4,
        head_channels: int | None = None,
        reduction: int | Sequence[int] = 2,
        transform: bool = True,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        strides = per_axis(reduction, spatial_dims, "reduction")
        self.heads = check_heads(in_channels, num_heads, head_channels)
        inner_channels = self.heads[0] * self.heads[1]
        margin: list[int] = []
        for s in strides[::-1]:
            margin += [s // 2, (s + 1) // 2 if s > 1 else 0]
        self.margin = margin
        self.reduce: nn.Module = nn.Identity()
        self.reduced_norm: nn.Module = nn.Identity()
        mixes = transform and num_heads > 1
        if max(strides) > 1:
            kernel = [s + 1 if s > 1 else 1 for s in strides]
            self.reduce = Conv[Conv.CONV, spatial_dims](in_channels, in_channels, kernel, strides, groups=in_channels)
            self.reduced_norm = nn.LayerNorm(in_channels, bias=not mixes)  # it would cancel in IN
        self.query = nn.Linear(in_channels, inner_channels)
        self.key = nn.Linear(in_channels, inner_channels, bias=False)  # a bias would cancel in the softmax
        self.value = nn.Linear(in_channels, inner_channels, bias=not mixes)
        self.transform = nn.Parameter(torch.empty(num_heads, num_heads)) if mixes else None
        if self.transform is not None:
            nn.init.uniform_(self.transform, -(num_heads**-0.5), num_heads**-0.5)
        self.output = nn.Linear(inner_channels, in_channels)

    def _queries(self, x: Tensor) -> Tensor:
        """Return scaled queries ``(B, N, H, d)``."""
        return self.query(x.flatten(2).transpose(1, 2)).unflatten(2, self.heads) * self.heads[1] ** -0.5

    def _reduced(self, x: Tensor) -> Tensor:
        """Return the tokens ``(B, M, C)`` that keys and values come from."""
        reduced = self.reduce(F.pad(x, self.margin) if max(self.margin) > 0 else x)
        return self.reduced_norm(reduced.flatten(2).transpose(1, 2))

    def _map(self, queries: Tensor, keys: Tensor, transform: Tensor) -> tuple[Tensor, Tensor]:
        """Return the softmax maps ``(B, H, N, M)`` of ``keys (B, M, H d)`` and one over their deviation."""
        # Mixing the logits of the heads is one dot product of width H d per head, so that no second map is stored.
        mixed = torch.einsum("hg,bngd->bhngd", transform, queries).flatten(3)
        logits = mixed.flatten(1, 2) @ keys.transpose(1, 2)
        weights = torch.softmax(logits.unflatten(1, [self.heads[0], -1]), dim=-1)
        variance = torch.var(weights, dim=(2, 3), unbiased=False, keepdim=True)
        return weights, torch.rsqrt(variance + 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        queries, reduced = self._queries(x), self._reduced(x)
        keys, values = self.key(reduced), self.value(reduced).unflatten(2, self.heads).transpose(1, 2)
        transform = self.transform
        if transform is not None:
            weights, scale = self._map(queries, keys, transform)
            y = (weights @ (values - values.mean(2, keepdim=True))) * scale
        else:
            keys = keys.unflatten(2, self.heads).transpose(1, 2)
            y = F.scaled_dot_product_attention(queries.transpose(1, 2), keys, values, scale=1.0)
        y = self.output(y.transpose(1, 2).flatten(2))
        return y.transpose(1, 2).contiguous().unflatten(2, list(x.shape[2:]))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the maps ``(B, H, N, M)`` that multiply the values, normalised ones with the transform.

        Args:
            x: ``(B, C, *spatial)``.
        """
        queries, keys = self._queries(x), self.key(self._reduced(x))
        transform = self.transform
        if transform is not None:
            weights, scale = self._map(queries, keys, transform)
            return (weights - weights.mean((2, 3), keepdim=True)) * scale
        keys = keys.unflatten(2, self.heads).permute(0, 2, 3, 1)
        return torch.softmax(queries.transpose(1, 2) @ keys, dim=-1)
