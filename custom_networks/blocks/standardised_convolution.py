"""Convolution with standardised weights (Qiao et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.checks import check_odd, check_spatial_dims, per_axis


class StandardisedConvolution(nn.Module):
    r"""Convolve with weights of mean zero and variance one per output channel, without a bias.

    .. math:: y_o = \sum_{i, t} \hat W_{oit}\, x_i(\cdot + t), \qquad
              \hat W_{oit} = \frac{W_{oit} - \mu_o}{\sqrt{\sigma_o^2 + 10^{-5}}}

    with :math:`\mu_o` and :math:`\sigma_o^2` the mean and the (biased) variance of :math:`W_o` over its input channels
    i and taps t. A norm follows it, which divides out the scale of y::

        weight W (C_out, C_in, *k) -> standardise -+
        x (B, C_in, *S) ---------------------------+-> convolve -> y (B, C_out, *S / strides)

    Differs from the paper: None.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C_in of the input.
        out_channels: channels C_out of the output.
        kernel_size: odd; one integer, or one per axis. The input is padded with half of it.
        strides: one integer, or one per axis.

    Shape:
        ``(B, in_channels, *S)`` to ``(B, out_channels, *ceil(S / strides))``.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, a kernel size is even, or an output channel has only one weight,
            which standardising would set to zero.

    Example:
        >>> StandardisedConvolution(3, 2, 8, strides=2)(torch.zeros(1, 2, 4, 6, 5)).shape
        torch.Size([1, 8, 2, 3, 3])

    Cost:
        Parameters ``k C_in C_out`` with k taps; standardising costs a few passes over them.

    References:
        S. Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019,
        arXiv:1903.10520. Reference outputs: https://github.com/Beckschen/TransUNet, ``StdConv2d``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        strides: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        check_odd(kernel_size, "kernel_size")
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        if in_channels * prod(kernel) < 2:
            raise ValueError(
                f"a standardised convolution needs 2 weights per output channel, got in_channels={in_channels} and "
                f"kernel_size={kernel_size}; use a larger kernel"
            )
        self.strides = list(per_axis(strides, spatial_dims, "strides"))
        self.padding = [k // 2 for k in kernel]
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, in_channels, *S)``.
        """
        flat = self.weight.flatten(1)
        variance, mean = torch.var_mean(flat, dim=1, correction=0, keepdim=True)
        weight = ((flat - mean) * torch.rsqrt(variance + 1e-5)).view_as(self.weight)
        if x.dim() == 4:
            return F.conv2d(x, weight, None, self.strides, self.padding)
        return F.conv3d(x, weight, None, self.strides, self.padding)
