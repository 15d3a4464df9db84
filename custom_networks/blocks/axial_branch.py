"""Encoder of axial blocks and the decoder that follows it: one branch of Medical Transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from custom_networks.blocks.axial_block import AxialBlock, ConvolutionUnit
from custom_networks.blocks.axial_norm import INSTANCE, axial_norm
from custom_networks.blocks.resize import resize
from custom_networks.checks import check_odd, check_spatial_dims, per_axis, per_level


class ResizingUnit(nn.Module):
    """Convolution, norm if there is one, and resizing to a grid unless it is there.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd, one integer, or one per axis.
        strides: one integer, or one per axis.
        norm: MONAI norm, batch with running statistics or instance without; ``None`` for none.
        resizes: whether the output's grid may be another than the input's.

    Example:
        >>> ResizingUnit(3, 2, 4, kernel_size=3)(torch.zeros(1, 2, 5, 6, 7), [10, 12, 13]).shape
        torch.Size([1, 4, 10, 12, 13])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 1,
        strides: int | Sequence[int] = 1,
        norm: str | tuple | None = None,
        resizes: bool = True,
    ) -> None:
        super().__init__()
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        steps = per_axis(strides, spatial_dims, "strides")
        padding = tuple(k // 2 for k in kernel)
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel, steps, padding)
        self.norm = nn.Identity() if norm is None else axial_norm(norm, spatial_dims, out_channels)
        self.resizes = resizes

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        """Return ``resize(norm(conv(x)))``, or ``norm(conv(x))``.

        Args:
            x: ``(B, in_channels, *S)``.
            size: spatial size of the output.
        """
        y = self.norm(self.conv(x))
        return resize(y, size) if self.resizes else y


class AxialBranch(nn.Module):
    r"""Stem of three convolutions, stages of axial blocks and an additive decoder; returns the decoder's maps.

    With f = ``features`` and L levels::

        x -> ``stem_convolutions`` times conv, norm, relu (f0/2)
          -> max pool -> conv, norm, relu (8 f0) -> conv, norm, relu (f0/2)
          -> blocks: x1 (f1) -> blocks, the first with strides: x2 (f2) -> ... -> x[L-1]
        d[L-1] = x[L-1] + relu(up(conv, strides, x[L-1])), or x[L-1] if not ``bottom``
        d[l] = x[l] + relu(up(conv d[l+1])) for l = L-2 to 1,   d[0] = relu(up(conv d[1])) on the grid of x
        with ``stem_skip``, d[0] + pointwise conv of the map before the max pool (f0/2), resized to the grid of x
        with ``decoder_norm``, norms behind the convolutions of d[l] and of the skip

    Differs from the paper: three dimensions (or two), any size, strides and kernels per axis; the widest convolution of
    the stem follows from ``features`` (128 channels in the released code, whatever the others are); pooling and several
    convolutions before it in the stem, a skip from it and norms in the decoder are options; the weights of the stem are
    drawn as by He et al. (2015), those of the decoder and of the skip as torch does; the blocks' differences, see
    :class:`~custom_networks.blocks.axial_block.AxialBlock`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels per level, finest first, at least two: the first even, the others multiples of 4.
        strides: down-sampling between levels, one entry for each level but the first (an integer, or one per axis), or
            one integer; the first is the stem's.
        kernel_size: kernels of the convolutions, odd; one entry per level, or one integer. A single stem convolution
            before the pooling takes ``3k - 2`` (7 for 3) for the k of the first level.
        stem_convolutions: convolutions before the pooling, 1 as in the paper; more have the kernel k each, and the
            first of them the strides.
        stem_pool: max pooling after them: one integer, or one per axis.
        stem_skip: whether the stem's map before the pooling is added to the decoder's last one. With first strides of
            1, and ``stem_pool`` in their place, it is on the grid of x and brings the finest edges.
        num_units: axial blocks of each level but the first.
        use_attention: whether the blocks have attention.
        form: form of the attention, "gated", "released", "ungated" or "position_free".
        token_grid: tokens per axis of the grid after the stem (that of x over the first strides and ``stem_pool``) that
            the tables of relative positions are made for: one integer, or one per axis.
        num_heads: heads; where they do not divide, the largest number that divides both.
        bottom: whether the decoder starts with a convolution with the last level's strides.
        decoder_norm: whether the decoder has norms, too, but behind the convolution of ``bottom``, whose map may be a
            single voxel.
        norm: MONAI norm, batch with running statistics or instance without.
        dropout: probability of dropping a value of every block's branch.
        checkpointing: in training, compute the softmaxes a second time in the backward pass instead of storing them.

    Shape:
        ``(B, in_channels, *S)`` to a list of L - 1 maps ``(B, features[l], *S_l)``, l = L-2 to 0, the last on the grid
        of x.

    Raises:
        ValueError: if the arguments do not fit each other.

    Example:
        >>> branch = AxialBranch(3, 1, features=(4, 8, 16), num_units=(1, 1))
        >>> [tuple(y.shape) for y in branch(torch.zeros(1, 1, 8, 12, 16))]
        [(1, 8, 4, 6, 8), (1, 4, 8, 12, 16)]

    Cost:
        With k[l] taps per kernel, r those of the first, n = ``in_channels``, s = f0/2 and an affine norm, the
        parameters are: stem ``r n s + 16 k[1] s f0 + 4s + 16 f0``, with m > 1 convolutions before the pooling
        ``k[0] s (n + (m-1) s) + 2 (m-1) s`` for ``r n s``; the blocks'; decoder ``k[l] f[l] f[l-1] + f[l-1]``
        for l = 1 to L-1, with ``bottom`` ``k[L-1] f[L-1]^2 + f[L-1]``, with ``stem_skip`` ``(s+1) f0``, with
        ``decoder_norm`` ``2 (f[0] + ... + f[L-2])`` and ``2 f0`` for the skip. The attention's maps of the finest
        blocks are the bulk of the memory, see
        :class:`~custom_networks.blocks.gated_axial_attention.GatedAxialAttention`.

    References:
        As :class:`~custom_networks.blocks.gated_axial_attention.GatedAxialAttention`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        features: Sequence[int] = (16, 32, 64, 128, 256),
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        stem_convolutions: int = 1,
        stem_pool: int | Sequence[int] = 1,
        stem_skip: bool = False,
        num_units: Sequence[int] = (1, 2, 4, 1),
        use_attention: bool = True,
        form: str = "gated",
        token_grid: int | Sequence[int] = 32,
        num_heads: int = 8,
        bottom: bool = True,
        decoder_norm: bool = False,
        norm: str | tuple = INSTANCE,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        levels = len(features)
        if levels < 2:
            raise ValueError(f"features must name at least 2 levels, got {tuple(features)}; add a level")
        if features[0] % 2 or any(width % 4 for width in features[1:]) or min(features) < 1:
            fitting = (2 * -(-features[0] // 2) or 2, *(4 * -(-width // 4) or 4 for width in features[1:]))
            raise ValueError(
                f"features must be even and from the second on multiples of 4, got {tuple(features)}; use {fitting}"
            )
        steps = per_level(strides, levels - 1, spatial_dims, "strides")
        kernels = per_level(kernel_size, levels, spatial_dims, "kernel_size")
        pool = per_axis(stem_pool, spatial_dims, "stem_pool")
        grid = list(per_axis(token_grid, spatial_dims, "token_grid"))
        for kernel in kernels:
            check_odd(kernel, "kernel_size")
        if len(num_units) != levels - 1 or min(num_units) < 1:
            raise ValueError(
                f"num_units must be {levels - 1} positive integers for these features, got {tuple(num_units)}; "
                "give one for each level of units"
            )
        if stem_convolutions < 1:
            raise ValueError(
                f"stem_convolutions must be at least 1, got {stem_convolutions}; use 1 for the paper's stem"
            )
        stem = features[0] // 2
        first = kernels[0] if stem_convolutions > 1 else [3 * k - 2 for k in kernels[0]]
        self.reader = nn.ModuleList(
            ConvolutionUnit(
                spatial_dims,
                stem if i else in_channels,
                stem,
                kernel_size=first,
                strides=1 if i else steps[0],
                norm=norm,
            )
            for i in range(stem_convolutions)
        )
        self.pool = Pool[Pool.MAX, spatial_dims](pool, pool)
        self.stem = nn.ModuleList(
            ConvolutionUnit(spatial_dims, width, out, kernel_size=kernels[1], norm=norm)
            for width, out in ((stem, 8 * features[0]), (8 * features[0], stem))
        )
        after = norm if decoder_norm else None
        self.skip = nn.ModuleList(
            ResizingUnit(spatial_dims, stem, features[0], norm=after, resizes=max(steps[0]) > 1)
            for _ in range(int(stem_skip))
        )
        self.stages = nn.ModuleList()
        for level, units in enumerate(num_units, start=1):
            stage = nn.ModuleList()
            for unit in range(units):
                shrinks = steps[level - 1] if level > 1 and unit == 0 else (1,) * spatial_dims
                below = stem if level == 1 else features[level - 1]
                stage.append(
                    AxialBlock(
                        spatial_dims,
                        features[level] if unit else below,
                        features[level],
                        strides=shrinks,
                        token_grid=grid,
                        num_heads=num_heads,
                        form=form,
                        use_attention=use_attention,
                        norm=norm,
                        dropout=dropout,
                        checkpointing=checkpointing,
                    )
                )
                grid = [-(-g // s) for g, s in zip(grid, shrinks, strict=True)]
            self.stages.append(stage)
        last = levels - 1
        self.bottom = nn.ModuleList(
            ResizingUnit(
                spatial_dims,
                features[last],
                features[last],
                kernel_size=kernels[last],
                strides=steps[-1],
                resizes=max(steps[-1]) > 1,
            )
            for _ in range(int(bottom))
        )
        self.decoder = nn.ModuleList(
            ResizingUnit(
                spatial_dims,
                features[level],
                features[level - 1],
                kernel_size=kernels[level],
                norm=after,
                resizes=max(*steps[level - 1], *(pool if level == 1 else ())) > 1,
            )
            for level in range(last, 0, -1)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the decoder's maps, coarsest first, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        read = x
        for unit in self.reader:
            read = torch.relu(unit(read))
        y = self.pool(read)
        for unit in self.stem:
            y = torch.relu(unit(y))
        maps: list[Tensor] = [x]
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                y = block(y)
            maps.append(y)
        for unit in self.bottom:
            y = y + torch.relu(unit(y, list(y.shape[2:])))
        outputs: list[Tensor] = []
        for i, unit in enumerate(self.decoder):
            level = len(maps) - 2 - i
            y = torch.relu(unit(y, list(maps[level].shape[2:])))
            if level > 0:
                y = y + maps[level]
            outputs.append(y)
        for unit in self.skip:
            outputs.append(outputs.pop() + unit(read, list(x.shape[2:])))
        return outputs
