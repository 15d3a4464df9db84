"""nnU-Net's plain U-Net with multi-branch feature extraction and edge aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.blocks.dual_conv import convolution_block
from custom_networks.blocks.edge_aggregation import EdgeAggregation
from custom_networks.blocks.mbtfe import Mbtfe
from custom_networks.blocks.resize import crop
from custom_networks.checks import (
    check_attention_parts,
    check_divides_all,
    check_input,
    check_odd,
    check_spatial_dims,
    per_level,
)
from custom_networks.nets.segmenter import Segmenter

ATTENTION_PARTS = ("mbtfe", "edge_aggregation")
EDGE_LEVELS = 3


class _UpStage(nn.Module):
    """One decoder level: a transposed convolution of the coarser map, the skip appended, two convolutions."""

    def __init__(self, up: nn.Module, convolutions: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.convolutions = convolutions

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convolutions(torch.cat([crop(self.up(x), list(skip.shape[2:])), skip], dim=1))


class MbtfeUnet(Segmenter):
    r"""The plain convolutional U-Net of nnU-Net, with MBTFE in its encoder and edge aggregation on its skips.

    Level ``l`` of the encoder is :math:`e_l = \mathrm{mbtfe}_l(\mathrm{conv}^2_{s_l}(e_{l-1}))`, whose first
    convolution carries the strides; level ``l`` of the decoder is
    :math:`d_l = \mathrm{conv}^2([\,\uparrow d_{l+1},\ \mathrm{skip}_l\,])`, with a transposed convolution whose kernel
    is its strides and ``conv`` = convolution, dropout, norm, activation::

        x -> e0 -> mbtfe -----+-- edge -+------------> d0 -> head -> logits
              \-> e1 -> mbtfe +-- aggre +---> d1 -----/
                   \-> e2 -> mbtfe gation -> d2 -----/
                        \-> e3 ------------/

    Without both parts it is nnU-Net's ``PlainConvUNet``.

    Differs from nnU-Net: no convolution biases before norms, which remove them. Differs from the public encoder with
    MBTFE: channels, kernels and strides are those of the network; the decoder takes the gated maps as skips, the
    encoder goes on with the maps before the gates.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes, background included.
        features: channels per level, finest first.
        strides: down-sampling between levels, one entry for each level but the first (an integer, or one integer per
            axis for anisotropic volumes), or one integer for all of them.
        kernel_size: kernel of the convolutions, odd; one integer for all, or one entry per level as for ``strides``.
        attention: the attention parts to build, any of "mbtfe" and "edge_aggregation"; ``()`` is nnU-Net's network.
        mbtfe_levels: encoder levels that end in an MBTFE block; negative numbers count from the coarsest.
        selector_act: MONAI activation between the two linear maps of an MBTFE block's branch weights, or ``None``.
        dual_groups: groups of dual convolutions in place of dense ones in encoder, decoder and edge aggregation, a
            divisor of every entry of ``features`` (the first convolution stays dense if they do not divide
            ``in_channels``); ``None`` for dense ones everywhere.
        checkpointing: in training, compute the MBTFE blocks again in the backward pass instead of keeping their maps.
        act: MONAI activation.
        norm: MONAI norm.
        dropout: probability of dropping a value after every convolution.
        deep_supervision: in training, return the logits of all decoder levels, resized to the input grid.

    Shape:
        ``(B, in_channels, *S)`` to logits ``(B, out_channels, *S)``; in training with deep supervision to
        ``(B, len(features) - 1, out_channels, *S)``, the finest level first. Every axis of ``S`` must be divisible by
        the product of that axis's strides, ``size_divisor``.

    Raises:
        ValueError: if an argument does not fit the others, or an input does not fit the network.

    Example:
        >>> MbtfeUnet(3, 1, 3, features=(4, 8, 8, 16))(torch.zeros(1, 1, 8, 16, 16)).shape
        torch.Size([1, 3, 8, 16, 16])

    Cost:
        With k[l] taps per kernel, s[l] the product of the strides before level l, widths f, L levels, f[-1] =
        ``in_channels`` before level 0 and an affine norm, the parameters are: encoder ``k[l] (f[l-1] f[l] + f[l]^2) +
        4f[l]`` per level; decoder ``s[l+1] f[l+1] f[l] + f[l] + 3k[l] f[l]^2 + 4f[l]`` per level but the coarsest;
        ``(f[0] + 1) out_channels`` for the head, ``(f[l] + 1) out_channels`` for each auxiliary head, l = 1 to L-2;
        those of :class:`~custom_networks.blocks.mbtfe.Mbtfe` and of
        :class:`~custom_networks.blocks.edge_aggregation.EdgeAggregation` on the first min(3, L-1) levels. A dual
        convolution has ``1 + k / groups`` in place of k.

    References:
        F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
        Nature Methods 18, 2021, doi:10.1038/s41592-020-01008-z. Consulted:
        https://github.com/MIC-DKFZ/dynamic-network-architectures (Apache-2.0), ``PlainConvUNet``.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        features: Sequence[int] = (32, 64, 128, 256),
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        attention: Sequence[str] = ATTENTION_PARTS,
        mbtfe_levels: Sequence[int] = (0, 1, 2),
        selector_act: str | tuple | None = None,
        dual_groups: int | None = None,
        checkpointing: bool = False,
        act: str | tuple = ("leakyrelu", {"negative_slope": 0.01, "inplace": True}),
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        check_spatial_dims(spatial_dims)
        check_attention_parts(attention, ATTENTION_PARTS)
        levels, edge = len(features), "edge_aggregation" in attention
        if levels < (3 if edge or deep_supervision else 2):
            raise ValueError(
                "features must name at least 2 levels (3 with deep_supervision or edge aggregation), got "
                f"{tuple(features)}; add a level"
            )
        if any(not -levels <= level < levels for level in mbtfe_levels):
            raise ValueError(
                f"mbtfe_levels must lie between {-levels} and {levels - 1}, got {tuple(mbtfe_levels)}; "
                f"there are {levels} levels"
            )
        if dual_groups is not None:
            check_divides_all(features, dual_groups, "dual_groups", "features")
        steps = per_level(strides, levels - 1, spatial_dims, "strides")
        kernels = per_level(kernel_size, levels, spatial_dims, "kernel_size")
        for kernel in kernels:
            check_odd(kernel, "kernel_size")
        super().__init__(in_channels, steps, deep_supervision)
        blocks: dict[str, Any] = {"act": act, "norm": norm, "dropout": dropout, "dual_groups": dual_groups}
        with_mbtfe = {level % levels for level in mbtfe_levels} if "mbtfe" in attention else set()
        if any(features[level] < 2 for level in with_mbtfe):
            raise ValueError(
                f"features must be at least 2 on a level with an MBTFE block, got {tuple(features)}; widen the level"
            )

        def convolutions(channels: int, level: int, step: Sequence[int] | int) -> list[nn.Module]:
            width, kernel = features[level], kernels[level]
            first = convolution_block(spatial_dims, channels, width, kernel_size=kernel, strides=step, **blocks)
            return [first, convolution_block(spatial_dims, width, width, kernel_size=kernel, **blocks)]

        self.encoder = nn.ModuleList()
        for level, width in enumerate(features):
            channels, step = (features[level - 1], steps[level - 1]) if level else (in_channels, 1)
            stage = nn.Sequential(*convolutions(channels, level, step))
            if level in with_mbtfe:
                stage.append(
                    Mbtfe(spatial_dims, width, norm=norm, selector_act=selector_act, checkpointing=checkpointing)
                )
            self.encoder.append(stage)
        gated = min(EDGE_LEVELS, levels - 1)
        self.edge_aggregation = (
            EdgeAggregation(
                spatial_dims, features[:gated], strides=steps[: gated - 1], kernel_size=kernels[1:gated], **blocks
            )
            if edge
            else None
        )
        transposed = Conv[Conv.CONVTRANS, spatial_dims]
        self.decoder = nn.ModuleList(
            _UpStage(
                transposed(features[level + 1], features[level], steps[level], steps[level]),
                nn.Sequential(*convolutions(2 * features[level], level, 1)),
            )
            for level in range(levels - 2, -1, -1)
        )
        self.add_heads(spatial_dims, features[:-1], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            check_input(x, self.in_channels, self.size_divisor)
        maps: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            maps.append(x)
        if self.edge_aggregation is not None:
            gated = self.edge_aggregation(maps[: len(self.edge_aggregation.gates)])
            maps = gated + maps[len(gated) :]
        outputs: list[Tensor] = []
        for i, stage in enumerate(self.decoder):
            x = stage(x, maps[len(maps) - 2 - i])
            outputs.append(x)
        return self.logits(outputs)
