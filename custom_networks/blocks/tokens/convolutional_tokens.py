"""A small residual network that makes tokens (the tokenisers of Primus V2 and V3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod

import torch
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from torch import Tensor, nn

from custom_networks.blocks.tokens.matrix_convolution import patch_convolution
from custom_networks.checks import check_odd, check_spatial_dims, check_width, per_axis, per_level

INSTANCE = ("instance", {"affine": True})
FIRST_SCALE = 1e-5


def draw_convolutions(module: nn.Module) -> None:
    """Draw the weights of all convolutions as by He et al. (2015) for leaky ReLUs of slope 0.01; biases are zero.

    Args:
        module: what holds the convolutions.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(child.weight, a=0.01)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


class ResidualUnit(nn.Module):
    r"""Two convolutions and a shortcut that shrinks by averaging, activated after the sum (ResNet-D).

    .. math:: y = a\bigl(N W_2\,a(N W_1 x) + S x\bigr)

    with the strides in :math:`W_1`, an activation :math:`a`, norms :math:`N`, and a shortcut :math:`S` of an average
    pooling where there are strides and a pointwise convolution with a norm where the width changes::

        x -+- W_1, strides -> norm -> act -> W_2 -> norm -+
           +- average pooling -> pointwise -> norm -------+-> act -> y

    Differs from the paper: two or three dimensions, strides and kernels per axis.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        strides: one integer, or one per axis.
        kernel_size: odd; one integer, or one per axis.
        act: MONAI activation.
        norm: MONAI norm.
        bias: whether the two spatial convolutions have a bias, as in released weights; the norm takes it out again.

    Shape:
        ``(B, in_channels, *S)`` to ``(B, out_channels, *S / strides)``; ``strides`` must divide S.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``strides`` or ``kernel_size`` does not fit, or a kernel is even.

    Example:
        >>> ResidualUnit(3, 4, 8, strides=2)(torch.zeros(1, 4, 4, 6, 8)).shape
        torch.Size([1, 8, 2, 3, 4])

    Cost:
        Parameters with k taps and affine norms: ``k C_out (C_in + C_out) + 4 C_out``, with ``bias`` ``2 C_out`` more,
        and ``C_in C_out + 2 C_out`` more where the width changes.

    References:
        K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385; T. He et al., "Bag of
        Tricks for Image Classification", CVPR 2019, arXiv:1812.01187, ResNet-D. Reference outputs:
        https://github.com/MIC-DKFZ/dynamic-network-architectures, ``BasicBlockD`` (Apache-2.0).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        strides: int | Sequence[int] = 1,
        kernel_size: int | Sequence[int] = 3,
        act: str | tuple = "relu",
        norm: str | tuple = INSTANCE,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        steps = per_axis(strides, spatial_dims, "strides")
        check_odd(kernel_size, "kernel_size")
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        conv = Conv[Conv.CONV, spatial_dims]

        def normed(convolution: nn.Module) -> nn.Sequential:
            return nn.Sequential(OrderedDict(conv=convolution, norm=get_norm_layer(norm, spatial_dims, out_channels)))

        padding = tuple(k // 2 for k in kernel)
        self.conv1 = normed(conv(in_channels, out_channels, kernel, steps, padding, bias=bias))
        self.conv2 = normed(conv(out_channels, out_channels, kernel, 1, padding, bias=bias))
        shortcut: list[nn.Module] = []
        if max(steps) > 1:
            shortcut.append(Pool[Pool.AVG, spatial_dims](steps, steps))
        if in_channels != out_channels:
            shortcut.append(normed(conv(in_channels, out_channels, 1, bias=False)))
        self.skip = nn.Sequential(*shortcut) if shortcut else nn.Identity()
        self.act = get_act_layer(act)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, in_channels, *S)``.
        """
        return self.act(self.conv2(self.act(self.conv1(x))) + self.skip(x))


class ConvolutionalTokens(nn.Module):
    r"""A stem and stages of residual units down to the grid of the tokens, where a pointwise map gives their width.

    ::

        x -> stem (f[0], S) -> stage 0 (f[1], S / s[0]) -> ... -> stage n-1 (f[n]) -> pointwise -+-> tokens (f[n+1])
               |                 |                                                               |
               +-----------------+---- strided convolutions, times learned scales (direct) ------+

    .. math:: t = W x_n + \sum_{j=0}^{n-1} s_j P_j x_j

    with the map :math:`x_0` of the stem, those of the stages after it, and, only if ``direct``, a projection
    :math:`P_j` of each map but the last, whose kernel and stride are what is left of a token there, and a scale
    :math:`s_j` that starts as 1e-5. Without them this is the tokeniser of Primus V2 (there with ReLU), with them of
    V3 (leaky ReLU). With instance norms every token depends on the whole image.

    Differs from the paper: two or three dimensions, strides and kernels per axis.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels of the stem, of every stage, and of the tokens.
        strides: down-sampling of every stage: one entry per stage (an integer, or one per axis), or one integer.
        kernel_size: odd kernels of the stem and of every stage: one entry for each, or one integer.
        num_units: residual units of every stage: one integer per stage, or one for all.
        direct: whether there are projections straight from the stem and the stages.
        act: MONAI activation.
        norm: MONAI norm.

    Shape:
        ``(B, in_channels, *S)`` to ``(B, features[-1], *S / strides)``; S divisible by the product of the strides.

    Raises:
        ValueError: if the arguments do not fit each other.

    Example:
        >>> tokens = ConvolutionalTokens(3, 1, features=(4, 8, 8, 12, 24), direct=True, act="leakyrelu")
        >>> tokens(torch.zeros(1, 1, 16, 24, 16)).shape
        torch.Size([1, 24, 2, 3, 2])

    Cost:
        Parameters: those of the units, ``(f[n] + 1) f[n+1]``, and if ``direct`` for every map j but the last
        ``(p f[j] + 1) f[n+1] + 1`` with p the voxels of a token on its grid.

    References:
        T. Wald et al., "Primus: Enforcing Attention Usage for 3D Medical Image Segmentation", 2025, arXiv:2503.01835.
        Reference outputs: https://github.com/MIC-DKFZ/dynamic-network-architectures, ``PatchEmbed_deeper`` and
        ``PatchEmbedDeeperControlled`` (Apache-2.0).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        features: Sequence[int],
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        num_units: int | Sequence[int] = 1,
        direct: bool = False,
        act: str | tuple = "relu",
        norm: str | tuple = INSTANCE,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        stages = len(features) - 2
        if stages < 1:
            raise ValueError(
                f"features must name a stem, at least 1 stage and the tokens, got {tuple(features)}; add a level"
            )
        for width in features:
            check_width(width, "features")
        steps = per_level(strides, stages, spatial_dims, "strides")
        kernels = per_level(kernel_size, stages + 1, spatial_dims, "kernel_size")
        units = list(num_units) if isinstance(num_units, Sequence) else [num_units] * stages
        if len(units) != stages or min(units) < 1:
            raise ValueError(
                f"num_units must be a positive integer or {stages} positive integers for these features, got "
                f"{num_units}; give one for each stage"
            )

        def chain(level: int, first: int, strides: tuple[int, ...], count: int, bias: bool) -> nn.Module:
            blocks = (
                ResidualUnit(
                    spatial_dims,
                    features[level] if i else first,
                    features[level],
                    strides=1 if i else strides,
                    kernel_size=kernels[level],
                    act=act,
                    norm=norm,
                    bias=bias,
                )
                for i in range(count)
            )
            return nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))

        conv = Conv[Conv.CONV, spatial_dims]
        self.stem = chain(0, in_channels, (1,) * spatial_dims, 1, True)
        self.stages = nn.ModuleList(
            chain(level + 1, features[level], steps[level], units[level], False) for level in range(stages)
        )
        self.final_proj = conv(features[-2], features[-1], 1)
        left = [tuple(map(prod, zip(*steps[level:], strict=True))) for level in range(stages if direct else 0)]
        self.proj_to_tokens = nn.ModuleList(
            patch_convolution(spatial_dims, features[level], features[-1], patch) for level, patch in enumerate(left)
        )
        self.scale_proj_to_tokens = nn.ParameterList(nn.Parameter(torch.tensor(FIRST_SCALE)) for _ in left)
        draw_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        tokens = self.final_proj(maps[-1])
        for i, (projection, scale) in enumerate(zip(self.proj_to_tokens, self.scale_proj_to_tokens, strict=True)):
            tokens = tokens + scale * projection(maps[i])
        return tokens
