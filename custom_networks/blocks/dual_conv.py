"""Dual convolution: a grouped and a pointwise convolution side by side (Zhong et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.blocks import ADN, Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.checks import check_divides, check_odd, check_spatial_dims, per_axis


class DualConv(nn.Module):
    r"""Sum of a grouped convolution and a pointwise one, a light stand-in for a dense convolution.

    .. math:: y = G x + P x

    with :math:`G` in ``groups`` groups and :math:`P` pointwise, both with the same strides and without biases.

    Differs from the paper: None.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input, a multiple of ``groups``.
        out_channels: channels of the output, a multiple of ``groups``.
        kernel_size: odd; one integer, or one per axis.
        strides: one integer, or one per axis.
        groups: groups of :math:`G`.

    Shape:
        ``(B, in_channels, *S)`` to ``(B, out_channels, *ceil(S / strides))``.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``groups`` does not divide the channels or a kernel size is even.

    Example:
        >>> import torch
        >>> DualConv(3, 8, 16, strides=2)(torch.zeros(1, 8, 5, 6, 7)).shape
        torch.Size([1, 16, 3, 3, 4])

    Cost:
        Parameters ``C_in C_out (k / groups + 1)`` with k taps, against ``k C_in C_out`` of a dense convolution.

    References:
        J. Zhong et al., "DualConv: Dual Convolutional Kernels for Lightweight Deep Neural Networks", IEEE TNNLS 2023,
        arXiv:2202.07481.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        strides: int | Sequence[int] = 1,
        groups: int = 8,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        check_odd(kernel_size, "kernel_size")
        steps = per_axis(strides, spatial_dims, "strides")
        check_divides(in_channels, groups, "groups")
        check_divides(out_channels, groups, "groups", "out_channels")
        conv = Conv[Conv.CONV, spatial_dims]
        padding = tuple(k // 2 for k in kernel)
        self.grouped = conv(in_channels, out_channels, kernel, steps, padding, groups=groups, bias=False)
        self.pointwise = conv(in_channels, out_channels, 1, steps, bias=False)
        for layer in (self.grouped, self.pointwise):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, in_channels, *S)``.
        """
        return self.grouped(x) + self.pointwise(x)


def convolution_block(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int | Sequence[int] = 3,
    strides: int | Sequence[int] = 1,
    act: str | tuple,
    norm: str | tuple,
    dropout: float = 0.0,
    dual_groups: int | None = None,
) -> nn.Module:
    """Return convolution, dropout, norm and activation, in nnU-Net's order; the convolution has no bias.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd; one integer, or one per axis.
        strides: one integer, or one per axis.
        act: MONAI activation.
        norm: MONAI norm.
        dropout: probability of dropping a value.
        dual_groups: groups of a :class:`DualConv` in place of the dense convolution, a divisor of ``out_channels``;
            ``None``, or a number that does not divide ``in_channels`` (an image has one), gives the dense one.

    Raises:
        ValueError: if ``dual_groups`` does not divide ``out_channels``, or as for :class:`DualConv`.

    Example:
        >>> import torch
        >>> block = convolution_block(3, 8, 16, act="relu", norm="instance", dual_groups=4)
        >>> block(torch.zeros(1, 8, 5, 6, 7)).shape
        torch.Size([1, 16, 5, 6, 7])
    """
    check_spatial_dims(spatial_dims)
    kernel, steps = per_axis(kernel_size, spatial_dims, "kernel_size"), per_axis(strides, spatial_dims, "strides")
    check_odd(kernel_size, "kernel_size")
    if dual_groups is not None:
        check_divides(out_channels, dual_groups, "dual_groups", "out_channels")
    if dual_groups is None or in_channels % dual_groups:
        return Convolution(
            spatial_dims,
            in_channels,
            out_channels,
            kernel_size=kernel,
            strides=steps,
            adn_ordering="DNA",
            act=act,
            norm=norm,
            dropout=dropout or None,
            bias=False,
        )
    return nn.Sequential(
        DualConv(spatial_dims, in_channels, out_channels, kernel_size=kernel, strides=steps, groups=dual_groups),
        ADN("DNA", out_channels, act=act, norm=norm, norm_dim=spatial_dims, dropout=dropout or None, dropout_dim=1),
    )
