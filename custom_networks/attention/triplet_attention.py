"""Triplet attention: gates across every pair of channel and spatial axes (Misra et al. 2021)."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from custom_networks.checks import check_odd, check_spatial_dims


class TripletAttention(nn.Module):
    r"""Scale the input by the mean of gates, each of which sees all axes but one.

    .. math:: y = x \odot \frac{1}{n + 1} \sum_{a} \sigma\bigl(\mathrm{norm}(k_a * [\max_a x,\ \mathrm{mean}_a x])\bigr)

    where a runs over the channel axis and the n spatial axes. To gate without axis a, channel and a change places, so
    that an n-dimensional convolution :math:`k_a` of two channels sees the remaining axes; in 3D, for a = D::

        x (B, C, D, H, W) -> max, mean over D -> (B, 2, C, H, W) -> conv, norm, sigmoid -> (B, 1, C, H, W)
                                                            as (B, C, 1, H, W) -> + the other gates, / (n + 1), * x -> y

    Differs from the paper: in 3D there are four gates (the channel with each of D, H, W, and the spatial one) in place
    of three; instance norm by default (batch norm in the paper).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input; the gates do not depend on it.
        kernel_size: taps of the convolutions along each axis, odd.
        norm: MONAI norm after the convolutions, or ``None`` (then they have a bias).

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size (with instance norm at least two voxels).

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or ``kernel_size`` is not a positive odd number.

    Example:
        >>> TripletAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``(n+1)(2k^n + 2)`` with n spatial axes, k taps per axis and an affine norm (2752 in 3D with the
        default kernel), independent of C. Time 2k^n for each of the N + C·N·(1/D + 1/H + 1/W) values of the gates;
        extra memory is one map of the size of the input.

    References:
        D. Misra, T. Nalamada, A. U. Arasanipalai, Q. Hou, "Rotate to Attend: Convolutional Triplet Attention Module",
        WACV 2021, arXiv:2010.03045. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        kernel_size: int = 7,
        norm: str | tuple | None = ("instance", {"affine": True}),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        check_odd(kernel_size, "kernel_size")
        conv = Conv[Conv.CONV, spatial_dims]
        self.gates = nn.ModuleList()
        for _ in range(spatial_dims + 1):
            gate = nn.Sequential(conv(2, 1, kernel_size, padding=kernel_size // 2, bias=norm is None))
            if norm is not None:
                gate.append(get_norm_layer(norm, spatial_dims, 1))
            self.gates.append(gate)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return x * self.attention_map(x)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the mean of the gates ``(B, C, *spatial)``, each value between 0 and 1.

        Args:
            x: ``(B, C, *spatial)``.
        """
        total = torch.zeros_like(x)
        for i, gate in enumerate(self.gates):
            axis = i + 1
            pooled = torch.cat([x.amax(axis, keepdim=True), x.mean(axis, keepdim=True)], dim=axis)
            total = total + torch.sigmoid(gate(pooled.transpose(1, axis))).transpose(1, axis)
        return total / len(self.gates)
