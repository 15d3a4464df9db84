"""SETR: a vision transformer on image patches with a progressive upsampling decoder (Zheng et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.blocks.resize import resize
from custom_networks.blocks.vision_transformer import VisionTransformer
from custom_networks.checks import (
    check_attention_parts,
    check_divides,
    check_input,
    check_odd,
    check_spatial_dims,
    per_level,
)
from custom_networks.nets.segmenter import Segmenter, doubling

ATTENTION_PARTS = ("transformer",)


class Setr(Segmenter):
    r"""Segmentation transformer: patches as tokens, a vision transformer, and a decoder without skips.

    .. math:: d_{L-1} = \mathrm{ViT}(\mathrm{patches}(x)), \qquad
              d_l = \uparrow \mathrm{act}(\mathrm{norm}(\mathrm{conv}\; d_{l+1})), \quad l = L-2, \dots, 0

    Each step of the decoder convolves on the coarser grid and then resizes to the next (SETR-PUP)::

        x (*S) -> patch convolution -> tokens (f[L-1], S / strides) -> transformer -> conv, resize -> ... -> head (*S)

    The natural ablation of :class:`~custom_networks.nets.transunet.TransUnet`: the same transformer without the trunk
    and its skips. All image detail must pass through the tokens, so expect coarse borders.

    Differs from the paper: three dimensions (or two); the position table is resized to any grid; instance norm instead
    of batch norm; the widths of the decoder shrink towards the image instead of being 256 on every level; one pointwise
    head after the last resize, with which it commutes.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes, background included.
        features: channels per level, finest first; the last is the width of the tokens.
        strides: resizing between levels, one entry for each level but the first (an integer, or one integer per axis
            for anisotropic volumes), or one integer for all of them; their product is the size of a patch.
        kernel_size: kernel of the decoder's convolutions, odd; one integer for all, or one entry for each level but the
            first, on whose grid there is none.
        num_layers: layers of the transformer.
        num_heads: attention heads, a divisor of the last entry of ``features``.
        attention: the attention parts to build: ``("transformer",)``, or ``()`` for the identity in its place.
        position_embedding: "learned", "rotary" or "none".
        token_grid: tokens per axis of the learned positions' reference grid: one integer, or one per axis.
        act: MONAI activation of the decoder.
        norm: MONAI norm of the decoder.
        dropout: probability of dropping a value of the tokens and the transformer's perceptrons, in training.
        deep_supervision: in training, return the logits of all decoder levels, resized to the input grid.

    Shape:
        ``(B, in_channels, *S)`` to logits ``(B, out_channels, *S)``; in training with deep supervision to
        ``(B, len(features) - 1, out_channels, *S)``, the finest level first. Every axis of ``S`` must be divisible by
        the product of that axis's strides, ``size_divisor``.

    Raises:
        ValueError: if an argument does not fit the others, or an input does not fit the network.

    Example:
        >>> Setr(3, 1, 3, features=(4, 8, 24), num_layers=2)(torch.zeros(1, 1, 8, 12, 16)).shape
        torch.Size([1, 3, 8, 12, 16])

    Cost:
        With widths f, L levels, h = f[L-1], p voxels per patch, k taps per kernel and an affine norm, the parameters
        are: patches ``(p in_channels + 1) h``; transformer ``num_layers (12h^2 + 13h) + 2h`` and learned positions
        ``h prod(token_grid)``; decoder ``k f[l] f[l+1] + 2f[l]`` for l = 0 to L-2; head ``(f[0]+1) out_channels``,
        auxiliary heads ``(f[l]+1) out_channels``, l = 1 to L-2.

    References:
        S. Zheng et al., "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers",
        CVPR 2021, arXiv:2012.15840. Consulted: https://github.com/fudan-zvg/SETR (MIT).
    """

    # a token of the paper stands for 16 voxels per axis
    most_steps: ClassVar[int | None] = 4

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        features: Sequence[int] = (32, 64, 128, 256, 768),
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        num_layers: int = 12,
        num_heads: int = 12,
        attention: Sequence[str] = ATTENTION_PARTS,
        position_embedding: str = "learned",
        token_grid: int | Sequence[int] = 6,
        act: str | tuple = "relu",
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        check_spatial_dims(spatial_dims)
        check_attention_parts(attention, ATTENTION_PARTS)
        levels = len(features)
        if levels < 2 or (deep_supervision and levels < 3):
            raise ValueError(
                f"features must name at least 2 levels (3 with deep_supervision), got {tuple(features)}; add a level"
            )
        if "transformer" in attention:
            check_divides(features[-1], num_heads, "num_heads", "the last entry of features,")
        steps = per_level(strides, levels - 1, spatial_dims, "strides")
        kernels = per_level(kernel_size, levels - 1, spatial_dims, "kernel_size")
        for kernel in kernels:
            check_odd(kernel, "kernel_size")
        super().__init__(in_channels, steps, deep_supervision)
        self.steps = [list(step) for step in reversed(steps)]
        self.embedding = Conv[Conv.CONV, spatial_dims](in_channels, features[-1], self.size_divisor, self.size_divisor)
        self.transformer = (
            VisionTransformer(
                spatial_dims,
                features[-1],
                num_layers=num_layers,
                num_heads=num_heads,
                position_embedding=position_embedding,
                token_grid=token_grid,
                dropout=dropout,
            )
            if "transformer" in attention
            else nn.Identity()
        )
        self.decoder = nn.ModuleList(
            Convolution(
                spatial_dims,
                features[level + 1],
                features[level],
                kernel_size=kernels[level],
                act=act,
                norm=norm,
                bias=False,
            )
            for level in range(levels - 2, -1, -1)
        )
        self.add_heads(spatial_dims, features[:-1], out_channels)

    @classmethod
    def scaled_arguments(cls, steps: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the constructor for a network of full width whose tokens halve it so many times.

        Width, layers and heads of the transformer are the defaults, ViT's base; the decoder's width doubles.

        Args:
            steps: how many times, 2 or more.
            arguments: arguments of the constructor; one that is missing has its default.

        Example:
            >>> Setr.scaled_arguments(4, {})["features"]
            [32, 64, 128, 256, 768]
        """
        base = {name: cls._argument({}, name) for name in ("num_layers", "num_heads")}
        widest = cls._argument({}, "features")[-1]
        return {**super().scaled_arguments(steps, arguments), "features": [*doubling(steps), widest], **base}

    @classmethod
    def step_arguments(
        cls, strides: Sequence[Sequence[int]], kernel_size: Sequence[Sequence[int]]
    ) -> dict[str, list[Any]]:
        """Return the arguments of the constructor for given steps; there is no kernel on the image's grid.

        Args:
            strides: down-sampling per axis of each step.
            kernel_size: kernel per axis before each step and after the last.
        """
        return super().step_arguments(strides, kernel_size[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            check_input(x, self.in_channels, self.size_divisor)
        x = self.transformer(self.embedding(x))
        outputs: list[Tensor] = []
        for i, convolution in enumerate(self.decoder):
            size = [n * step for n, step in zip(x.shape[2:], self.steps[i], strict=True)]
            x = resize(convolution(x), size)
            outputs.append(x)
        return self.logits(outputs)
