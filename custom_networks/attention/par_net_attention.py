"""The block of ParNet: two convolutions beside a skip connection with squeeze and excitation (Goyal et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from custom_networks.checks import check_odd, check_spatial_dims, per_axis


class ParNetAttention(nn.Module):
    r"""Add a wide convolution, a pointwise one and the input scaled by a channel gate, then apply SiLU.

    .. math:: y = \mathrm{SiLU}\bigl(\mathrm{norm}(W_k * x) + \mathrm{norm}(W_1 x) + x \odot \sigma(W\,\bar x + b)\bigr)

    where :math:`\bar x` is the mean over all voxels::

        x (B, C, *S) -+- convolution k, norm -----------------------------+
                      +- convolution 1, norm -----------------------------+- + -> SiLU -> y (B, C, *S)
                      +- mean -> (B, C, 1...) -> W, sigmoid -> * x -------+

    Differs from the paper: instance norm by default (batch norm in the paper), and none on the skip connection, where
    the authors' code has a batch norm: behind an instance norm every channel has the same mean in every sample, and the
    gate would no longer depend on the input. The layer of the gate has a bias (none in the authors' code).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        kernel_size: taps of the wide convolution, one odd number or one per axis.
        norm: MONAI norm after the convolutions, or ``None`` (then they have a bias).

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size (with instance norm at least two voxels).

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or ``kernel_size`` is not positive and odd.

    Example:
        >>> ParNetAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``(t + 2)C² + C`` with t taps (27 in 3D) and ``4C`` for two affine norms. Time (t+1)·N·C² with N
        voxels; extra memory is about six maps of the size of the input.

    References:
        A. Goyal, A. Bochkovskiy, J. Deng, V. Koltun, "Non-deep Networks", NeurIPS 2022, arXiv:2110.07641;
        https://github.com/imankgoyal/NonDeepNetworks.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        norm: str | tuple | None = ("instance", {"affine": True}),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        taps = per_axis(kernel_size, spatial_dims, "kernel_size")
        check_odd(kernel_size, "kernel_size")
        conv = Conv[Conv.CONV, spatial_dims]
        padding = tuple(k // 2 for k in taps)
        self.wide = nn.Sequential(conv(in_channels, in_channels, taps, padding=padding, bias=norm is None))
        self.pointwise = nn.Sequential(conv(in_channels, in_channels, 1, bias=norm is None))
        if norm is not None:
            self.wide.append(get_norm_layer(norm, spatial_dims, in_channels))
            self.pointwise.append(get_norm_layer(norm, spatial_dims, in_channels))
        self.excite = conv(in_channels, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return F.silu(self.wide(x) + self.pointwise(x) + x * self.attention_map(x))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the gate of the skip connection ``(B, C, 1, ...)``, each value between 0 and 1.

        Args:
            x: ``(B, C, *spatial)``.
        """
        mean = x.mean(list(range(2, x.dim())), keepdim=True)
        return torch.sigmoid(self.excite(mean))
