"""Primus: tokens of 8 voxels, a transformer, and a decoder so small that only attention can do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from custom_networks.blocks.tokens.convolutional_tokens import INSTANCE, ConvolutionalTokens
from custom_networks.blocks.tokens.eva_transformer import EvaTransformer
from custom_networks.blocks.tokens.patch_embedding import PatchEmbedding
from custom_networks.blocks.tokens.transposed_decoder import TransposedDecoder
from custom_networks.checks import (
    check_attention_parts,
    check_divides,
    check_input,
    check_spatial_dims,
    check_width,
    per_level,
)
from custom_networks.nets.segmenter import Segmenter

ATTENTION_PARTS = ("transformer",)
RELEASED_STEPS = 3
# width of the tokens, layers and heads of the released sizes
SIZES = {"S": (396, 12, 6), "B": (792, 12, 12), "M": (864, 16, 12), "L": (1056, 24, 16)}
# widths of the released stems and stages, and their activations
TOKENISERS: dict[int, tuple[int, ...]] = {1: (), 2: (32, 32, 64, 128), 3: (32, 64, 256, 1024)}
ACTIVATIONS: dict[int, str | tuple] = {2: "relu", 3: ("leakyrelu", {"negative_slope": 0.01})}


class Primus(Segmenter):
    r"""Transformer for segmentation: a tokeniser, EVA-02 blocks on the grid of its tokens, transposed convolutions.

    .. math:: \mathrm{logits} = \mathrm{Up}\bigl(\mathrm{EVA}(\mathrm{Down}(x))\bigr)

    There is no skip from the image to the decoder, and no voxel of the decoder sees another's token::

        x (*S) -> down_projection -> tokens (C, S / strides) -> eva -> up_projection -> logits (*S)

    The versions differ in how tokens are made:

    1. a convolution as large as its stride (:class:`~custom_networks.blocks.tokens.patch_embedding.PatchEmbedding`);
    2. a stem and stages of residual units with ReLU
       (:class:`~custom_networks.blocks.tokens.convolutional_tokens.ConvolutionalTokens`);
    3. the same, wider, with leaky ReLU, and with projections from the stem and every stage straight to the tokens.

    With the released sizes, see :meth:`released_arguments`, versions 2 and 3 are convolutional networks in no small
    part: at 64 voxels per axis the tokeniser of version 3 in size S holds 47.4 of 70.6 million parameters.

    Differs from the paper: two or three dimensions and any strides; the table of positions is resized to any grid,
    where the released code takes one size only; deep supervision can be asked for. Patches are not dropped in training,
    which belongs to pre-training as an autoencoder. The names of the state dict are those of the released code, whose
    weights load: what it holds twice (``all_modules``) and its unused ``mask_token`` are dropped, and its
    ``register_tokens`` become ``eva.registers``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes, background included.
        version: 1, 2 or 3, see above.
        features: width of the tokens alone for version 1; for 2 and 3 the widths of the stem, every stage and the
            tokens. The widths of the decoder follow from the last one and ``out_channels``.
        strides: down-sampling step by step, the finest first; for versions 2 and 3 one step per stage. One entry per
            step (an integer, or one integer per axis for anisotropic volumes), or one integer for all of them, which
            are three for version 1. Their product is the size of a token in voxels.
        kernel_size: odd kernels of the tokeniser's stem and stages: one entry for each, or one integer; version 1 has
            none of them.
        num_units: residual units of every stage, one integer or one per stage; version 1 has none.
        num_layers: blocks of the transformer.
        num_heads: attention heads, a divisor of the last entry of ``features``.
        mlp_ratio: inner width of the transformer's perceptrons over that of the tokens.
        layer_scale: first value of the learned scales of the transformer's branches, or ``None`` for no scales.
        inner_norm: whether the attentions have a norm before their last layer.
        num_registers: learned tokens beside those of the image.
        attention: the attention parts to build: ``("transformer",)``, or ``()`` for the identity in its place.
        token_grid: tokens per axis of the learned positions' reference grid, best that of the training patch: one
            integer, or one per axis.
        norm: MONAI norm of the tokeniser; version 1 has none.
        dropout: probability of dropping a value of the tokens and of the transformer's branches, in training.
        dropout_path_rate: probability of dropping a branch of the last block of a sample as a whole, in training; it
            grows linearly from 0 in the first block.
        deep_supervision: in training, return the logits of all decoder levels, resized to the input grid.
        checkpointing: in training, compute every block again in the backward pass instead of keeping its values.

    Shape:
        ``(B, in_channels, *S)`` to logits ``(B, out_channels, *S)``; in training with deep supervision to
        ``(B, steps, out_channels, *S)``, the finest level first. Every axis of ``S`` must be divisible by the product
        of that axis's strides, ``size_divisor``.

    Raises:
        ValueError: if an argument does not fit the others, or an input does not fit the network.

    Example:
        >>> net = Primus(3, 1, 3, version=2, features=(4, 4, 8, 8, 24), num_layers=2, num_heads=2)
        >>> net(torch.zeros(1, 1, 16, 24, 32)).shape
        torch.Size([1, 3, 16, 24, 32])

    Cost:
        Parameters: those of the tokeniser; of the transformer with tokens of width C ``num_layers (12C^2 + 68/3 C) +
        2C + C prod(token_grid)`` by default; and those of the decoder. With one channel and two classes at 96 voxels
        per axis, in millions: version 1 in S, B, M, L 23.9, 93.2, 146.6, 325.6; version 2 24.6, 93.8, 147.2, 326.1;
        version 3 71.1, 149.5, 204.6, 388.0. Auxiliary heads ``(c + 1) out_channels`` for every width c between.

    References:
        T. Wald et al., "Primus: Enforcing Attention Usage for 3D Medical Image Segmentation", 2025, arXiv:2503.01835;
        Y. Fang et al., "EVA-02: A Visual Representation for Neon Genesis", 2023, arXiv:2303.11331. Consulted:
        https://github.com/MIC-DKFZ/dynamic-network-architectures (Apache-2.0), ``Primus``, ``PrimusV2``, ``PrimusV3``.
    """

    # tokens stand for 8 voxels per axis: coarser ones lose what no skip brings back
    fewest_steps: ClassVar[int] = RELEASED_STEPS
    most_steps: ClassVar[int | None] = RELEASED_STEPS

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        version: int = 1,
        features: Sequence[int] = (396,),
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        num_units: int | Sequence[int] = 1,
        num_layers: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 8 / 3,
        layer_scale: float | None = 0.1,
        inner_norm: bool = True,
        num_registers: int = 0,
        attention: Sequence[str] = ATTENTION_PARTS,
        token_grid: int | Sequence[int] = 8,
        norm: str | tuple = INSTANCE,
        dropout: float = 0.0,
        dropout_path_rate: float = 0.0,
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> None:
        check_spatial_dims(spatial_dims)
        check_attention_parts(attention, ATTENTION_PARTS)
        if version not in TOKENISERS:
            raise ValueError(f"version must be 1, 2 or 3, got {version}; use for example 1")
        if version == 1 and len(features) != 1:
            raise ValueError(
                f"features must name the width of the tokens alone for version 1, got {tuple(features)}; "
                f"use {tuple(features[-1:]) or (396,)}"
            )
        if version > 1 and len(features) < 3:
            raise ValueError(
                f"features must name a stem, at least 1 stage and the tokens for version {version}, got "
                f"{tuple(features)}; use for example {(*TOKENISERS[version], 396)}"
            )
        for width in features:
            check_width(width, "features")
        if "transformer" in attention:
            check_divides(features[-1], num_heads, "num_heads", "the last entry of features,")
        steps = self.steps_of({"version": version, "features": features, "strides": strides}, spatial_dims)
        if not steps or (deep_supervision and len(steps) < 2):
            raise ValueError(f"strides must have at least 1 entry (2 with deep_supervision), got {strides}; add a step")
        super().__init__(in_channels, steps, deep_supervision)
        self.down_projection: nn.Module
        if version == 1:
            self.down_projection = PatchEmbedding(spatial_dims, in_channels, features[-1], patch=self.size_divisor)
        else:
            self.down_projection = ConvolutionalTokens(
                spatial_dims,
                in_channels,
                features=features,
                strides=steps,
                kernel_size=kernel_size,
                num_units=num_units,
                direct=version == 3,
                act=ACTIVATIONS[version],
                norm=norm,
            )
        self.up_projection = TransposedDecoder(spatial_dims, features[-1], out_channels, strides=steps[::-1])
        self.eva = (
            EvaTransformer(
                spatial_dims,
                features[-1],
                num_layers=num_layers,
                num_heads=num_heads,
                token_grid=token_grid,
                mlp_ratio=mlp_ratio,
                layer_scale=layer_scale,
                inner_norm=inner_norm,
                num_registers=num_registers,
                dropout=dropout,
                dropout_path_rate=dropout_path_rate,
                checkpointing=checkpointing,
            )
            if "transformer" in attention
            else nn.Identity()
        )
        self.add_auxiliary_heads(spatial_dims, self.up_projection.widths[1:-1], out_channels)
        self.register_load_state_dict_pre_hook(_from_released)

    @classmethod
    def released_arguments(cls, size: str, version: int = 1) -> dict[str, Any]:
        """Return the arguments of the constructor of a released network.

        The probability of dropping a branch is the 0.2 of the trainings whose results are published.

        Args:
            size: "S", "B", "M" or "L".
            version: 1, 2 or 3.

        Raises:
            ValueError: if there is no such network.

        Example:
            >>> Primus.released_arguments("S", version=2)["features"]
            [32, 32, 64, 128, 396]
            >>> with torch.device("meta"):
            ...     net = Primus(3, 1, 2, **Primus.released_arguments("M"), token_grid=12)
            >>> sum(p.numel() for p in net.parameters())
            146602394
        """
        if size not in SIZES:
            raise ValueError(f"size must be one of {tuple(SIZES)}, got {size!r}; use for example 'S'")
        if version not in TOKENISERS:
            raise ValueError(f"version must be 1, 2 or 3, got {version}; use for example 1")
        width, layers, heads = SIZES[size]
        return {
            "version": version,
            "features": [*TOKENISERS[version], width],
            "strides": [2] * RELEASED_STEPS,
            "num_layers": layers,
            "num_heads": heads,
            "dropout_path_rate": 0.2,
        }

    @classmethod
    def steps_of(cls, arguments: Mapping[str, Any], spatial_dims: int) -> list[tuple[int, ...]]:
        """Return the down-sampling per axis of each step, from the image on.

        Args:
            arguments: arguments of the constructor; one that is missing has its default.
            spatial_dims: 2 or 3.
        """
        strides = cls._argument(arguments, "strides")
        if cls._argument(arguments, "version") == 1:
            steps = len(strides) if isinstance(strides, Sequence) else RELEASED_STEPS
        else:
            steps = len(cls._argument(arguments, "features")) - 2
        return per_level(strides, steps, spatial_dims, "strides")

    @classmethod
    def scaled_arguments(cls, steps: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the constructor for a network of full width: the released size S of that version.

        Args:
            steps: how many times the network halves its input, 3.
            arguments: arguments of the constructor; one that is missing has its default.

        Example:
            >>> Primus.scaled_arguments(3, {"version": 3})["features"]
            [32, 64, 256, 1024, 396]
        """
        return cls.released_arguments("S", cls._argument(arguments, "version"))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            check_input(x, self.in_channels, self.size_divisor)
        outputs = self.up_projection(self.eva(self.down_projection(x)))
        return self.supervised(outputs[-1], outputs)


def _from_released(module: Primus, state_dict: dict, prefix: str, *_: object) -> None:
    """Let a net load the state dict of the released code: drop what is there twice or unused, and name registers."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        if ".all_modules." in name or name == "mask_token":
            del state_dict[key]
        elif name == "register_tokens":
            state_dict[f"{prefix}eva.registers"] = state_dict.pop(key)
