"""TransUNet: a convolutional trunk, a vision transformer on its coarsest grid and a cascaded decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.blocks.residual_trunk import ResidualTrunk
from custom_networks.blocks.up_block import UpBlock
from custom_networks.blocks.vision_transformer import VisionTransformer
from custom_networks.checks import check_attention_parts, check_divides, check_input, check_spatial_dims, per_level
from custom_networks.nets.segmenter import Segmenter

ATTENTION_PARTS = ("transformer",)
PAPER_UNITS, PAPER_LAYERS = (3, 4, 9), 12
HEAD_FEATURES = 64


class TransUnet(Segmenter):
    r"""Residual trunk, transformer over the tokens of its coarsest map, decoder with the trunk's maps as skips.

    With five levels, the default, and f = ``features``::

        x -> root ------------------------ m1 (f1) -----------------> d1 -> d0 -> head -> logits
              \-> pool, units -------- m2 (2 f2) --------> d2 -------/
                   \-> units ------ m3 (2 f3) -> d3 ------/
                        \-> units m4 (2 f4) -> P -> transformer -> conv -/

    P is a pointwise convolution to the tokens' width :math:`h = \tfrac32 f_{L-1}`, ``conv`` a convolution, norm and
    activation back to :math:`f_{L-1}`, and :math:`d_l` the block of width :math:`f_l` of
    :class:`~custom_networks.blocks.up_block.UpBlock`: resize, append the skip, convolve twice. Level 0, the grid of the
    image, has no skip unless ``root_level`` is 0: then the root lies on it, without strides, and every map one level
    finer. Every width follows from ``features``; the default is the paper's scale: 768 wide tokens, 12 layers, 12
    heads.

    Differs from the paper: three dimensions (or two); any image size, as the position table is resized; any number of
    input channels, not copies of one; a padded max pooling; instance norm instead of batch norm in the decoder; the
    decoder resizes to the skip without aligned corners; no pre-trained weights.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes, background included.
        features: channels of the decoder per level, finest first, at least two below the root and those even. The
            trunk's maps have twice as many (the root as many), its bottlenecks half.
        strides: down-sampling between levels, one entry for each level but the first (an integer, or one integer per
            axis for anisotropic volumes), or one integer for all of them.
        kernel_size: kernel of the convolutions, odd; one integer for all, or one entry per level as for ``strides``.
            The root, which reads the image, takes ``3k - 2`` (7 for 3) for the k of the first level if it is one
            convolution.
        root_level: level of the root, 1 as in the paper, or 0, which gives the image grid a skip.
        root_convolutions: convolutions of the root, 1 as in the paper; more have the kernel k each.
        num_units: residual units of the trunk on each level below the root.
        num_layers: layers of the transformer.
        num_heads: attention heads, a divisor of h.
        attention: the attention parts to build: ``("transformer",)``, or ``()`` for the identity in its place.
        position_embedding: "learned", "rotary" or "none".
        token_grid: tokens per axis of the learned positions' reference grid, best that of the training patch: one
            integer, or one per axis.
        norm_groups: groups of the trunk's norms; where they do not divide, the largest number that divides both.
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
        >>> net = TransUnet(3, 1, 3, features=(4, 8, 8, 16), strides=(1, 2, 2), num_units=(1, 1), num_layers=2)
        >>> net(torch.zeros(1, 1, 8, 12, 16)).shape
        torch.Size([1, 3, 8, 12, 16])

    Cost:
        With k taps per kernel, r = taps of the root, n = ``in_channels``, L levels, R = ``root_level``, u[l] units,
        t[R] = f[R] and t[l] = 2f[l] below, i[l] = f[l] / 2, h = 3f[L-1] / 2 and an affine norm, the parameters are:
        root ``r n f[R] + 2f[R]``, or ``k f[R] (n + (c - 1) f[R]) + 2c f[R]`` for c > 1 convolutions; units of level
        l > R ``u[l] (k i^2 + i t[l] + 4i + 2t[l]) + i (t[l-1] + (u[l]-1) t[l]) + t[l-1] t[l] + 2t[l]`` (the shortcut's
        two terms are absent if l = R+1 and t[R] = t[R+1]); tokens ``(t[L-1] + 1) h``; transformer ``num_layers (12h^2 +
        13h) + 2h`` and learned positions ``h prod(token_grid)``; back ``k h f[L-1] + 2f[L-1]``; decoder ``k f[l]
        (f[l+1] + t[l] + f[l]) + 4f[l]`` for l = 0 to L-2, t[0] = 0 if R = 1; head ``(k3 f[0] + 1) out_channels`` with
        k3 = 3^spatial_dims; auxiliary heads ``(f[l] + 1) out_channels``, l = 1 to L-2.

    References:
        J. Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", 2021,
        arXiv:2102.04306; J. Chen et al., "3D TransUNet", 2023, arXiv:2310.07781. Consulted:
        https://github.com/Beckschen/TransUNet, https://github.com/Beckschen/3D-TransUNet (Apache-2.0).
    """

    # a token of the paper stands for 16 voxels per axis
    most_steps: ClassVar[int | None] = 4

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        features: Sequence[int] = (16, 64, 128, 256, 512),
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        root_level: int = 1,
        root_convolutions: int = 1,
        num_units: Sequence[int] = (3, 4, 9),
        num_layers: int = 12,
        num_heads: int = 12,
        attention: Sequence[str] = ATTENTION_PARTS,
        position_embedding: str = "learned",
        token_grid: int | Sequence[int] = 6,
        norm_groups: int = 32,
        act: str | tuple = "relu",
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        check_spatial_dims(spatial_dims)
        check_attention_parts(attention, ATTENTION_PARTS)
        levels = len(features)
        if root_level not in (0, 1):
            raise ValueError(f"root_level must be 0 or 1, got {root_level}; use 0 for a skip on the image grid")
        fewest = 3 if deep_supervision else root_level + 2
        if levels < fewest:
            raise ValueError(f"features must name at least {fewest} levels, got {tuple(features)}; add a level")
        below = tuple(features[root_level + 1 :])
        if any(width % 2 for width in below):
            even = tuple(width + width % 2 for width in below)
            raise ValueError(f"features must be even below the root, got {below}; use {even}")
        steps = per_level(strides, levels - 1, spatial_dims, "strides")
        kernels = per_level(kernel_size, levels, spatial_dims, "kernel_size")
        super().__init__(in_channels, steps, deep_supervision)
        maps = [features[root_level], *(2 * width for width in below)]
        hidden = 3 * features[-1] // 2
        if "transformer" in attention:
            check_divides(hidden, num_heads, "num_heads", "the width of the tokens, 3/2 of the last entry of features,")
        self.trunk = ResidualTrunk(
            spatial_dims,
            in_channels,
            features=maps,
            strides=steps if root_level else [1, *steps],
            kernel_size=[kernels[0], *kernels[root_level + 1 :]],
            num_units=num_units,
            root_convolutions=root_convolutions,
            norm_groups=norm_groups,
        )
        self.embedding = Conv[Conv.CONV, spatial_dims](maps[-1], hidden, 1)
        self.transformer = (
            VisionTransformer(
                spatial_dims,
                hidden,
                num_layers=num_layers,
                num_heads=num_heads,
                position_embedding=position_embedding,
                token_grid=token_grid,
                dropout=dropout,
            )
            if "transformer" in attention
            else nn.Identity()
        )
        self.bottleneck = Convolution(
            spatial_dims, hidden, features[-1], kernel_size=kernels[-1], act=act, norm=norm, bias=False
        )
        self.decoder = nn.ModuleList(
            UpBlock(
                spatial_dims,
                features[level + 1],
                maps[level - root_level] if level >= root_level else 0,
                features[level],
                kernel_size=kernels[level],
                act=act,
                norm=norm,
            )
            for level in range(levels - 2, -1, -1)
        )
        self.add_heads(spatial_dims, features[:-1], out_channels, kernel_size=3)

    @classmethod
    def scaled_arguments(cls, steps: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the constructor for a network of full width that halves its input so many times.

        The transformer has the paper's 12 layers, in heads of at most 64 features; the trunk the paper's 3, 4 and 9
        units on its coarsest levels and 3 on those before them.

        Args:
            steps: how many times, 2 or more.
            arguments: arguments of the constructor; one that is missing has its default.

        Example:
            >>> own = TransUnet.scaled_arguments(4, {"root_level": 0})
            >>> own["features"], own["num_units"], own["num_heads"]
            ([32, 64, 128, 256, 320], [3, 3, 4, 9], 8)
        """
        scaled = super().scaled_arguments(steps, arguments)
        hidden, units = 3 * scaled["features"][-1] // 2, steps - cls._argument(arguments, "root_level")
        heads = next(n for n in range(-(-hidden // HEAD_FEATURES), hidden + 1) if hidden % n == 0)
        num_units = [*[PAPER_UNITS[0]] * units, *PAPER_UNITS][-units:]
        return {**scaled, "num_units": num_units, "num_layers": PAPER_LAYERS, "num_heads": heads}

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            check_input(x, self.in_channels, self.size_divisor)
        maps = self.trunk(x)
        y = self.bottleneck(self.transformer(self.embedding(maps[-1])))
        outputs: list[Tensor] = []
        for i, block in enumerate(self.decoder):
            skip = maps[len(maps) - 2 - i] if i < len(maps) - 1 else None
            y = block(y, list((x if skip is None else skip).shape[2:]), skip)
            outputs.append(y)
        return self.logits(outputs)
