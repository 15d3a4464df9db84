"""Axial attention U-Net, plain or gated (Valanarasu et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from custom_networks.blocks.axial_branch import AxialBranch
from custom_networks.blocks.axial_norm import INSTANCE
from custom_networks.checks import check_attention_parts, check_input, check_spatial_dims, per_axis, per_level
from custom_networks.nets.axial_segmenter import AxialSegmenter

ATTENTION_PARTS = ("axial",)


class AxialUnet(AxialSegmenter):
    r"""U-Net whose encoder attends along the axes, one after the other, and whose decoder adds the encoder's maps.

    With five levels, the default, and f = ``features``::

        x -> stem (f0/2) -> blocks: x1 (f1) ------------------------------ + -> d1 -> d0 (f0) -> head -> logits
                              \-> blocks: x2 (f2) ------------- + -> d2 --/
                                    \-> blocks: x3 (f3) -- + -> d3 --/
                                          \-> blocks: x4 (f4) -> d4 --/

    The parts are those of :class:`~custom_networks.blocks.axial_branch.AxialBranch`, which is the whole network but for
    the head. ``form="gated"`` gives the gated axial attention U-Net of the paper, "ungated" the axial attention U-Net;
    the widths of the default are the paper's.

    Differs from the paper: see :class:`~custom_networks.blocks.axial_branch.AxialBranch`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes, background included.
        features: channels per level, finest first: the first even, the others multiples of 4.
        strides: down-sampling between levels, one entry for each level but the first (an integer, or one integer per
            axis for anisotropic volumes), or one integer for all of them; the first is the stem's.
        kernel_size: kernel of the convolutions, odd; one integer for all, or one entry per level as for ``strides``.
            A single convolution before the stem's pooling takes ``3k - 2`` (7 for 3) for the k of the first level.
        stem_convolutions: convolutions before the stem's pooling, 1 as in the paper; more have the kernel k each.
        stem_pool: further down-sampling in the stem, so that the attention runs on a coarser grid: one integer, or one
            per axis.
        stem_skip: whether the stem's map before the pooling is added to its decoder's last one. With first
            strides of 1, and ``stem_pool`` in their place, it is on the image's grid and brings the finest edges.
        num_units: axial blocks of each level but the first.
        attention: the attention parts to build: ``("axial",)``, or ``()`` for the identity in its place.
        form: "gated", "released" (gates as in the published code), "ungated" or "position_free".
        token_grid: tokens per axis of the grid after the stem (the image's over the first strides and ``stem_pool``)
            that the tables of relative positions are made for, best that of the training patch: one integer, or one per
            axis.
        num_heads: attention heads; where they do not divide, the largest number that divides both.
        decoder_norm: whether the decoder has norms, too; the released code has none there.
        norm: MONAI norm, batch with running statistics or instance without.
        dropout: probability of dropping a value of every block's branch.
        deep_supervision: in training, return the logits of all decoder levels, resized to the input grid.
        checkpointing: in training, compute the softmaxes a second time in the backward pass instead of storing them.

    Shape:
        ``(B, in_channels, *S)`` to logits ``(B, out_channels, *S)``; in training with deep supervision to
        ``(B, len(features) - 1, out_channels, *S)``, the finest level first. Every axis of ``S`` must be divisible by
        the product of that axis's strides and ``stem_pool``, ``size_divisor``.

    Raises:
        ValueError: if an argument does not fit the others, or an input does not fit the network.

    Example:
        >>> net = AxialUnet(3, 1, 3, features=(4, 8, 16), num_units=(1, 1))
        >>> net(torch.zeros(1, 1, 8, 12, 16)).shape
        torch.Size([1, 3, 8, 12, 16])

    Cost:
        The parameters of the branch, ``(f[0]+1) out_channels`` for the head and ``(f[l]+1) out_channels`` for each
        auxiliary head, l = 1 to L-2. A training step stores one map of logits per attention: for a sample of 64x64x64
        voxels, with the default arguments, 4 MiB times 8 heads for each of the 6 attentions on the stem's grid, with
        ``stem_pool=2`` a sixteenth of it.

    References:
        J. M. J. Valanarasu et al., "Medical Transformer: Gated Axial-Attention for Medical Image Segmentation", MICCAI
        2021, arXiv:2102.10662. Consulted: https://github.com/jeya-maria-jose/Medical-Transformer, ``axialunet`` and
        ``gated``.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        features: Sequence[int] = (16, 32, 64, 128, 256),
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        stem_convolutions: int = 1,
        stem_pool: int | Sequence[int] = 1,
        stem_skip: bool = False,
        num_units: Sequence[int] = (1, 2, 4, 1),
        attention: Sequence[str] = ATTENTION_PARTS,
        form: str = "gated",
        token_grid: int | Sequence[int] = 32,
        num_heads: int = 8,
        decoder_norm: bool = False,
        norm: str | tuple = INSTANCE,
        dropout: float = 0.0,
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> None:
        check_spatial_dims(spatial_dims)
        check_attention_parts(attention, ATTENTION_PARTS)
        levels = len(features)
        fewest = 3 if deep_supervision else 2
        if levels < fewest:
            raise ValueError(f"features must name at least {fewest} levels, got {tuple(features)}; add a level")
        steps = per_level(strides, levels - 1, spatial_dims, "strides")
        super().__init__(in_channels, [*steps, per_axis(stem_pool, spatial_dims, "stem_pool")], deep_supervision)
        self.branch = AxialBranch(
            spatial_dims,
            in_channels,
            features=features,
            strides=steps,
            kernel_size=kernel_size,
            stem_convolutions=stem_convolutions,
            stem_pool=stem_pool,
            stem_skip=stem_skip,
            num_units=num_units,
            use_attention="axial" in attention,
            form=form,
            token_grid=token_grid,
            num_heads=num_heads,
            decoder_norm=decoder_norm,
            norm=norm,
            dropout=dropout,
            checkpointing=checkpointing,
        )
        self.add_heads(spatial_dims, features[:-1], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            check_input(x, self.in_channels, self.size_divisor)
        return self.logits(self.branch(x))
