"""CBAM: a channel gate, then a spatial gate (Woo et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.checks import check_odd, check_reduction, check_spatial_dims, per_axis


class SpatialGate(nn.Module):
    r"""Compute one gate per voxel from the mean and the maximum of its channels.

    .. math:: g = \sigma\bigl(K * [\bar x;\ \hat x]\bigr)

    with mean :math:`\bar x` and maximum :math:`\hat x` over the channels. It has no width of its own, so one set of
    weights serves maps of any number of channels.

    Differs from the paper: the convolution has a bias and no norm (the formula has neither; the released code has
    batch norm).

    Args:
        spatial_dims: 2 or 3.
        kernel_size: odd, voxels per axis of the kernel, one number or one per axis.

    Shape:
        ``(B, C, *spatial)`` to ``(B, 1, *spatial)``, any C and spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or a kernel size is even or below 1.

    Example:
        >>> SpatialGate(3, kernel_size=7)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 1, 4, 6, 5])

    Cost:
        Parameters ``2 k + 1`` with k the product of ``kernel_size``. Time N(C + 2k) with N voxels.

    References:
        As :class:`Cbam`.
    """

    def __init__(self, spatial_dims: int, *, kernel_size: int | Sequence[int]) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        check_odd(kernel_size, "kernel_size")
        convolution = Conv[Conv.CONV, spatial_dims](2, 1, kernel)
        # Its parameters hang here, not one level deeper: those of Cbam are "spatial.weight" and "spatial.bias".
        self.weight, self.bias = convolution.weight, convolution.bias
        self.padding = [k // 2 for k in kernel]

    def forward(self, x: Tensor) -> Tensor:
        """Return ``g``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        if x.dim() == 4:
            return torch.sigmoid(F.conv2d(pooled, self.weight, self.bias, padding=self.padding))
        return torch.sigmoid(F.conv3d(pooled, self.weight, self.bias, padding=self.padding))


class Cbam(nn.Module):
    r"""Scale every channel by one gate, then every voxel of the result by another.

    .. math:: x' = \sigma\bigl(m(\bar x) + m(\hat x)\bigr) \odot x, \qquad
              y = \sigma\bigl(K * [\bar x'; \hat x']\bigr) \odot x', \qquad m(v) = W_1\,\mathrm{ReLU}(W_0 v)

    where bar and hat are mean and maximum, over the voxels in the first gate and over the channels in the second::

        x (B, C, *S) -> mean, max (B, C) -> m of each (B, C) -> sum, sigmoid -> * x -> x' (B, C, *S)
        x' -> mean, max over channels (B, 2, *S) -> conv k, sigmoid (B, 1, *S) -> * x' -> y (B, C, *S)

    Differs from the paper: ``reduction`` is 4 by default (16 in the paper), because the first levels of a 3D network
    are narrow. The convolution has a bias and no norm (the formula has neither; the released code has batch norm).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        reduction: the hidden width of the channel gate is max(1, C // reduction).
        kernel_size: odd, voxels per axis of the spatial gate's kernel, one number or one per axis.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``reduction`` is below 1, or a kernel size is even or below 1.

    Example:
        >>> Cbam(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``2 C max(1, C // reduction) + 2 k + 1`` with k the product of ``kernel_size``. Time N(C + k) with N
        voxels; extra memory one map of the input's size, and four maps of one channel.

    References:
        S. Woo, J. Park, J.-Y. Lee, I. S. Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018,
        arXiv:1807.06521; https://github.com/Jongchan/attention-module.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, *, reduction: int = 4, kernel_size: int | Sequence[int] = 7
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        hidden = check_reduction(in_channels, reduction)
        self.channel = nn.Sequential(
            nn.Linear(in_channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, in_channels, bias=False)
        )
        self.spatial = SpatialGate(spatial_dims, kernel_size=kernel_size)

    def _channel_gate(self, x: Tensor) -> Tensor:
        """Return ``(B, C, 1, ...)``."""
        voxels = x.flatten(2)
        gate = torch.sigmoid(self.channel(voxels.mean(2)) + self.channel(voxels.amax(2)))
        return gate.reshape(list(gate.shape) + [1] * (x.dim() - 2))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        x = x * self._channel_gate(x)
        return x * self.spatial(x)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the product ``(B, C, *spatial)`` of the two gates, in (0, 1).

        Args:
            x: ``(B, C, *spatial)``.
        """
        gate = self._channel_gate(x)
        return gate * self.spatial(x * gate)
