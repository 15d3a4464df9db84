"""The convolutional trunk of TransUNet: a residual network with standardised weights and group norm."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from custom_networks.blocks.standardised_convolution import StandardisedConvolution
from custom_networks.checks import check_odd, check_spatial_dims, per_level

NORM_EPSILON = 1e-6


def _group_norm(groups: int, channels: int) -> nn.GroupNorm:
    """Return group norm with the largest number of groups that divides both."""
    if groups < 1:
        raise ValueError(f"norm_groups must be at least 1, got {groups}; use for example 32")
    return nn.GroupNorm(gcd(groups, channels), channels, eps=NORM_EPSILON)


class BottleneckUnit(nn.Module):
    r"""Residual unit of three standardised convolutions, activated after the sum.

    .. math:: y = \mathrm{relu}\bigl(P x + \mathrm{GN}\,W_3\,\mathrm{relu}\,\mathrm{GN}\,W_2\,\mathrm{relu}\,
              \mathrm{GN}\,W_1 x\bigr)

    with pointwise :math:`W_1` (to a quarter of the output channels) and :math:`W_3`, spatial :math:`W_2` that carries
    the strides, and :math:`P` the identity, or, where the shape changes, a pointwise standardised convolution with the
    strides and a norm of every channel.

    Differs from the paper: None. (The released code calls it pre-activation; it is not.)

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 4.
        strides: one integer, or one per axis.
        kernel_size: kernel of the spatial convolution, odd; one integer, or one per axis.
        norm_groups: groups of the norms; where they do not divide the channels, the largest number that divides both.

    Shape:
        ``(B, in_channels, *S)`` to ``(B, out_channels, *ceil(S / strides))``.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``out_channels`` is no multiple of 4 or a kernel size is even.

    Example:
        >>> BottleneckUnit(3, 8, 16, strides=2)(torch.zeros(1, 8, 4, 6, 8)).shape
        torch.Size([1, 16, 2, 3, 4])

    Cost:
        Parameters, with I = C_out / 4 and k taps: ``C_in I + k I^2 + I C_out + 4I + 2C_out``, and ``C_in C_out +
        2C_out`` more where the shape changes.

    References:
        K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385; J. Chen et al.,
        "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", 2021, arXiv:2102.04306.
        Consulted: https://github.com/Beckschen/TransUNet, ``PreActBottleneck``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        strides: int | Sequence[int] = 1,
        kernel_size: int | Sequence[int] = 3,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        if out_channels < 1 or out_channels % 4:
            raise ValueError(
                f"out_channels must be a multiple of 4, got {out_channels}; "
                f"use for example {4 * max(1, -(-out_channels // 4))}"
            )
        inner = out_channels // 4
        self.residual = nn.Sequential(
            StandardisedConvolution(spatial_dims, in_channels, inner, kernel_size=1),
            _group_norm(norm_groups, inner),
            nn.ReLU(),
            StandardisedConvolution(spatial_dims, inner, inner, kernel_size=kernel_size, strides=strides),
            _group_norm(norm_groups, inner),
            nn.ReLU(),
            StandardisedConvolution(spatial_dims, inner, out_channels, kernel_size=1),
            _group_norm(norm_groups, out_channels),
        )
        steps = (strides,) if isinstance(strides, int) else tuple(strides)
        changes = in_channels != out_channels or max(steps) > 1
        self.shortcut = (
            nn.Sequential(
                StandardisedConvolution(spatial_dims, in_channels, out_channels, kernel_size=1, strides=strides),
                nn.GroupNorm(out_channels, out_channels),
            )
            if changes
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, in_channels, *S)``.
        """
        return torch.relu(self.shortcut(x) + self.residual(x))


class ResidualTrunk(nn.Module):
    r"""Root convolution, max pooling and stages of bottleneck units; returns the map of every level.

    ::

        x -> root: standardised convolution, group norm, relu (once, or several times) -> map 0 (features[0])
          -> max pool -> units -> map 1 (features[1]) -> units, the first with strides -> map 2 (features[2]) -> ...

    Differs from the paper: the pooling is padded, so that no map needs zeros at its border to fit the decoder; the
    pooling's kernel is 3 (in general ``2 (stride // 2) + 1``) on every axis that it shrinks and 1 on the others.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels of the maps, finest first; all but the first multiples of 4.
        strides: down-sampling before each map, one entry per map (an integer, or one per axis), or one integer.
        kernel_size: kernels, odd; the first entry, k, is that of the root, which takes ``3k - 2`` (7 for 3) if it is
            one convolution, the others those of the units of each map; one entry per map, or one integer.
        num_units: bottleneck units of each map but the first.
        root_convolutions: convolutions of the root, 1 as in the paper; more have the kernel k each, and the first of
            them the strides (three reach as far as the paper's one).
        norm_groups: groups of the norms; where they do not divide the channels, the largest number that divides both.

    Shape:
        ``(B, in_channels, *S)`` to a list of ``(B, features[l], *S_l)``, :math:`S_l = S_{l-1} / \mathrm{strides}_l`,
        rounded up.

    Raises:
        ValueError: if the lengths of the arguments do not fit each other, or as for the units.

    Example:
        >>> trunk = ResidualTrunk(3, 1, features=(8, 16, 32), num_units=(1, 1))
        >>> [tuple(y.shape) for y in trunk(torch.zeros(1, 1, 16, 16, 8))]
        [(1, 8, 8, 8, 4), (1, 16, 4, 4, 2), (1, 32, 2, 2, 1)]

    Cost:
        Parameters: root ``r C_in f + 2 f`` with f = ``features[0]`` and r taps, for n > 1 convolutions of k taps
        ``k f (C_in + (n - 1) f) + 2 n f``; and those of the units.

    References:
        As :class:`BottleneckUnit`; the hybrid's trunk "ResNetV2" is that of A. Dosovitskiy et al., "An Image is Worth
        16x16 Words", ICLR 2021, arXiv:2010.11929.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        features: Sequence[int] = (64, 256, 512, 1024),
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        num_units: Sequence[int] = (3, 4, 9),
        root_convolutions: int = 1,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if root_convolutions < 1:
            raise ValueError(
                f"root_convolutions must be at least 1, got {root_convolutions}; use 1 for the paper's root"
            )
        if len(features) < 2:
            raise ValueError(f"features must name at least 2 maps, got {tuple(features)}; add a level")
        if features[0] < 1 or any(width < 1 or width % 4 for width in features[1:]):
            fitting = (max(1, features[0]), *(4 * max(1, -(-width // 4)) for width in features[1:]))
            raise ValueError(
                f"features must be multiples of 4 but for the root's, got {tuple(features)}; use for example {fitting}"
            )
        steps = per_level(strides, len(features), spatial_dims, "strides")
        kernels = per_level(kernel_size, len(features), spatial_dims, "kernel_size")
        for kernel in kernels:
            check_odd(kernel, "kernel_size")
        if len(num_units) != len(features) - 1 or min(num_units) < 1:
            raise ValueError(
                f"num_units must be {len(features) - 1} positive integers for these features, got {tuple(num_units)}; "
                "give one for each level of units"
            )
        root_kernel = [3 * k - 2 if root_convolutions == 1 else k for k in kernels[0]]
        window = [2 * (s // 2) + 1 for s in steps[1]]
        pool = Pool[Pool.MAX, spatial_dims]
        self.root = nn.Sequential()
        for i in range(root_convolutions):
            channels, stride = (features[0], 1) if i else (in_channels, steps[0])
            self.root.append(
                StandardisedConvolution(spatial_dims, channels, features[0], kernel_size=root_kernel, strides=stride)
            )
            self.root.extend([_group_norm(norm_groups, features[0]), nn.ReLU()])
        self.stages = nn.ModuleList()
        for level, units in enumerate(num_units, start=1):
            first = pool(window, steps[1], [w // 2 for w in window]) if level == 1 else nn.Identity()
            stage = nn.Sequential(first)
            for unit in range(units):
                stage.append(
                    BottleneckUnit(
                        spatial_dims,
                        features[level] if unit else features[level - 1],
                        features[level],
                        strides=steps[level] if level > 1 and unit == 0 else 1,
                        kernel_size=kernels[level],
                        norm_groups=norm_groups,
                    )
                )
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps, finest first, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        maps = [self.root(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps
