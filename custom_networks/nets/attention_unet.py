"""Attention U-Net with additive attention gates and non-local blocks (Oktay et al. 2018; Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from custom_networks.attention.non_local import NonLocal
from custom_networks.blocks.attention_gate import AttentionGate
from custom_networks.blocks.resize import resize
from custom_networks.checks import (
    check_attention_parts,
    check_input,
    check_odd,
    check_reduction,
    check_spatial_dims,
    per_level,
)
from custom_networks.nets.segmenter import Segmenter

ATTENTION_PARTS = ("gate", "non_local")


class _PlainSkip(nn.Module):
    """The skip connection without a gate."""

    def forward(self, x: Tensor, gating: Tensor) -> Tensor:
        return x


class _UpStage(nn.Module):
    """One decoder level: gate the skip, resize the coarser map to it, concatenate, convolve."""

    def __init__(self, gating: nn.Module, gate: nn.Module, project: nn.Module, convolutions: nn.Module) -> None:
        super().__init__()
        self.gating = gating
        self.gate = gate
        self.project = project
        self.convolutions = convolutions

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        gated = self.gate(skip, self.gating(x))
        # A 1x1x1 convolution commutes with the resize (its weights sum to one); before it, it costs 1/8.
        return self.convolutions(torch.cat([gated, resize(self.project(x), list(skip.shape[2:]))], dim=1))


class AttentionUnet(Segmenter):
    r"""U-Net whose skip connections are gated by the decoder, with non-local blocks on the coarse grids.

    Level ``l`` of the encoder is :math:`e_l = \mathrm{conv}^2(\mathrm{pool}_l(e_{l-1}))`; level ``l`` of the decoder is
    :math:`d_l = \mathrm{conv}^2([\,\mathrm{gate}(e_l, d_{l+1}),\ \uparrow P d_{l+1}\,])`, with
    :math:`d_{L-1} = e_{L-1}`, ``conv`` = convolution, norm, (dropout), activation, P a 1x1x1 convolution, and the
    gate of :class:`~custom_networks.blocks.attention_gate.AttentionGate` on every level but the finest::

        x -> e0 ------------------- skip -------------------> d0 -> head -> logits
              \-> e1 ------- gate(e1, d2) --------> d1 ------/
                   \-> e2 -- gate(e2, gating(e3)) -> d2 ----/
                        \-> e3 + non-local --------/

    The first gating signal is a 1x1x1 convolution, norm and activation of the coarsest map, as in the released code.

    Differs from the paper: instance norm instead of batch norm; the coarser map is projected to the width of the skip
    before it is resized (the paper concatenates all its channels); the gates add skip and signal in half of the skip's
    channels (``gate_reduction``; the released network takes all of them), and the layer behind each gate in the
    released network (``combine_gates``: 1x1x1 convolution, batch norm, ReLU) is left out; the auxiliary outputs are
    supervised each by itself instead of being merged by a convolution; non-local blocks are an addition.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes, background included.
        features: channels per level, finest first; the number of levels is ``len(features)``.
        strides: down-sampling between levels, one entry for each level but the first (an integer, or one integer per
            axis for anisotropic volumes), or one integer for all of them.
        kernel_size: kernel of the convolutions, odd; one integer for all, or one entry per level as for ``strides``.
        attention: the attention parts to build, any of "gate" and "non_local"; ``()`` is the plain U-Net.
        gate_reduction: a gate adds skip and signal in max(1, C // gate_reduction) channels, C those of the skip; 1 as
            in the released network.
        non_local_levels: encoder levels that end in a non-local block; negative numbers count from the coarsest.
        act: MONAI activation.
        norm: MONAI norm.
        dropout: probability of dropping a value after the norm of every level's second convolution.
        deep_supervision: in training, return the logits of all decoder levels, resized to the input grid.

    Shape:
        ``(B, in_channels, *S)`` to logits ``(B, out_channels, *S)``; in training with deep supervision to
        ``(B, len(features) - 1, out_channels, *S)``, the finest level first. Every axis of ``S`` must be divisible by
        the product of that axis's strides, ``size_divisor``.

    Raises:
        ValueError: if an argument does not fit the others, or an input does not fit the network.

    Example:
        >>> AttentionUnet(3, 1, 3, features=(8, 16, 32))(torch.zeros(1, 1, 8, 12, 16)).shape
        torch.Size([1, 3, 8, 12, 16])

    Cost:
        With k[l] taps per kernel, widths f, L levels, f[-1] = ``in_channels`` before level 0 and an affine norm, the
        parameters are: encoder ``k[l](f[l-1] f[l] + f[l]^2) + 4f[l]`` per level; decoder
        ``3k[l] f[l]^2 + 4f[l] + (f[l+1]+1) f[l]`` per level but the coarsest; ``(f[0]+1) out_channels`` for the head,
        ``(f[l]+1) out_channels`` for each auxiliary head, l = 1 to L-2; ``f[L-1]^2 + 2f[L-1]`` for the gating signal
        if L > 2; and those of the gates (C = f[l], G = f[l+1], I = max(1, C // gate_reduction); l = 1 to L-2) and
        non-local blocks.

    References:
        O. Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", 2018, arXiv:1804.03999;
        X. Wang et al., "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971. Consulted:
        https://github.com/ozan-oktay/Attention-Gated-Networks (MIT), ``unet_CT_single_att_dsv_3D``.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        features: Sequence[int] = (16, 32, 64, 128),
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        attention: Sequence[str] = ATTENTION_PARTS,
        gate_reduction: int = 2,
        non_local_levels: Sequence[int] = (-1,),
        act: str | tuple = "relu",
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        check_spatial_dims(spatial_dims)
        levels = len(features)
        if levels < 2 or (deep_supervision and levels < 3):
            raise ValueError(
                f"features must name at least 2 levels (3 with deep_supervision), got {tuple(features)}; add a level"
            )
        check_attention_parts(attention, ATTENTION_PARTS)
        steps = per_level(strides, levels - 1, spatial_dims, "strides")
        kernels = per_level(kernel_size, levels, spatial_dims, "kernel_size")
        super().__init__(in_channels, steps, deep_supervision)
        for kernel in kernels:
            check_odd(kernel, "kernel_size")
        if any(not -levels <= level < levels for level in non_local_levels):
            raise ValueError(
                f"non_local_levels must lie between {-levels} and {levels - 1}, got {tuple(non_local_levels)}; "
                f"there are {levels} levels"
            )
        non_local = {level % levels for level in non_local_levels} if "non_local" in attention else set()
        inner = [check_reduction(width, gate_reduction, "gate_reduction") for width in features]
        conv = Conv[Conv.CONV, spatial_dims]
        pool = Pool[Pool.MAX, spatial_dims]

        def convolution(channels: int, out: int, kernel: Sequence[int] | int, drop: float = 0.0) -> Convolution:
            return Convolution(
                spatial_dims, channels, out, kernel_size=kernel, act=act, norm=norm, dropout=drop or None, bias=False
            )

        def convolutions(channels: int, level: int) -> list[nn.Module]:
            width, kernel = features[level], kernels[level]
            return [convolution(channels, width, kernel), convolution(width, width, kernel, dropout)]

        self.encoder = nn.ModuleList()
        for level in range(levels):
            stage = nn.Sequential() if level == 0 else nn.Sequential(pool(steps[level - 1], steps[level - 1]))
            stage.extend(convolutions(in_channels if level == 0 else features[level - 1], level))
            if level in non_local:
                stage.append(NonLocal(spatial_dims, features[level], norm=norm))
            self.encoder.append(stage)
        self.decoder = nn.ModuleList()
        for level in range(levels - 2, -1, -1):
            gated = "gate" in attention and level > 0
            self.decoder.append(
                _UpStage(
                    convolution(features[-1], features[-1], 1) if gated and level == levels - 2 else nn.Identity(),
                    AttentionGate(
                        spatial_dims,
                        features[level],
                        features[level + 1],
                        inter_channels=inner[level],
                        sub_sample=steps[level],
                        norm=norm,
                    )
                    if gated
                    else _PlainSkip(),
                    conv(features[level + 1], features[level], 1),
                    nn.Sequential(*convolutions(2 * features[level], level)),
                )
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
        outputs: list[Tensor] = []
        for i, stage in enumerate(self.decoder):
            x = stage(x, maps[len(maps) - 2 - i])
            outputs.append(x)
        return self.logits(outputs)
