"""Medical Transformer: a global branch of gated axial attention and a local one on windows (Valanarasu et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import torch
from monai.networks.blocks import Convolution
from torch import Tensor

from custom_networks.blocks.axial_branch import AxialBranch
from custom_networks.blocks.axial_norm import INSTANCE
from custom_networks.blocks.gated_axial_attention import FORMS
from custom_networks.blocks.windows import fold_windows, unfold_windows
from custom_networks.checks import check_attention_parts, check_input, check_spatial_dims, per_axis, per_level
from custom_networks.nets.axial_segmenter import AxialSegmenter

BRANCHES = ("global", "local")
# along an axis where half a patch has fewer voxels a window is the whole patch
LEAST_WINDOW = 8


class MedicalTransformer(AxialSegmenter):
    r"""Shallow branch with gated axial attention on the image, deep one without positions on each window of it, added.

    .. math:: y = \mathrm{head}\,\mathrm{relu}\bigl(W\,(g(x) + \mathrm{join}_k\,l(\mathrm{window}_k(x)))\bigr)

    with a convolution W and two branches as of :class:`~custom_networks.blocks.axial_branch.AxialBranch`, g of the
    first levels and l of all levels, ending in maps of :math:`f_0` channels on their grid::

        x (B, n, *S) -+-> global branch, global_levels levels -------------------------------> (B, f0, *S) -+
                      +-> cut to G windows (G B, n, *w)   -> local branch, all levels -> join, cut to S --+-> W, relu
                                                                                                  -> head -> logits

    All windows go through the local branch in one batch.

    The default is the paper's network; ``form="ungated", local_form="ungated"`` is its LoGo.

    Differs from the paper: three dimensions (or two); windows of any size or number for any image (the released code
    cuts 4x4 windows of 32 pixels whatever the image); the local stem is as narrow as the global one (the released code
    gives it the width that the global branch ends with, 64 for 8); batch norm, where it is asked for, has one mean and
    variance of all windows in training (the released code passes them one after the other, each with its own, and moves
    the running ones as many times); the branches' differences.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes, background included.
        features: channels per level, finest first: the first even, the others multiples of 4.
        strides: down-sampling between levels, one entry for each level but the first (an integer, or one integer per
            axis for anisotropic volumes), or one integer for all of them; the first is the stems'.
        kernel_size: kernel of the convolutions, odd; one integer for all, or one entry per level as for ``strides``.
            A single convolution before a stem's pooling takes ``3k - 2`` (7 for 3) for the k of the first level.
        stem_convolutions: convolutions before a stem's pooling, 1 as in the paper; more have the kernel k each.
        stem_pool: further down-sampling in the stems, so that the attention runs on a coarser grid: one integer, or one
            per axis.
        stem_skip: whether each stem's map before the pooling is added to its branch's last one. With first
            strides of 1, and ``stem_pool`` in their place, it is on the image's grid and brings the finest edges.
        num_units: axial blocks of each level but the first; the global branch takes the first of them.
        global_levels: levels of blocks of the global branch, at most ``len(features) - 1``.
        window_size: voxels of a window per axis: one integer, or one per axis. Rounded up to a multiple of the product
            of that axis's strides and ``stem_pool``, and doubled on the last axis if the coarsest grid had one voxel.
        window_grid: windows per axis at most, instead of ``window_size``: one integer, or one per axis. Their size
            follows from the image's, rounded up in the same way. For exports with dynamic sizes use
            ``window_size``, and an example with two windows or more along every axis.
        branches: the branches to build, any of "global" and "local".
        attention: the branches that have attention; the others have the identity in its place.
        form: the global branch's attention: "gated", "released" (gates as in the published code), "ungated" or
            "position_free".
        local_form: the same for the local branch.
        token_grid: tokens per axis of the grid after the stem (the image's over the first strides and ``stem_pool``)
            that the tables of relative positions are made for, best that of the training patch: one integer, or one per
            axis.
        num_heads: attention heads; where they do not divide, the largest number that divides both.
        decoder_norm: whether the decoders and W have norms, too; the released code has none there.
        norm: MONAI norm, batch with running statistics or instance without.
        dropout: probability of dropping a value of every block's branch.
        deep_supervision: in training, return the logits of the fused map and of the global branch's coarser levels,
            resized to the input grid.
        checkpointing: in training, compute the softmaxes a second time in the backward pass instead of storing them.

    Shape:
        ``(B, in_channels, *S)`` to logits ``(B, out_channels, *S)``; in training with deep supervision to
        ``(B, global_levels, out_channels, *S)``, the finest level first. Every axis of ``S`` must be divisible by the
        product of ``stem_pool`` and of that axis's first ``global_levels`` strides, ``size_divisor``.

    Raises:
        ValueError: if an argument does not fit the others, or an input does not fit the network.

    Example:
        >>> net = MedicalTransformer(3, 1, 3, features=(4, 8, 16, 16), num_units=(1, 1, 1), window_size=16)
        >>> net(torch.zeros(1, 1, 8, 12, 16)).shape
        torch.Size([1, 3, 8, 12, 16])

    Cost:
        The parameters of the two branches, the global one without ``bottom``; ``k[0] f[0]^2 + f[0]`` for W, ``2 f[0]``
        more with ``decoder_norm``; ``(f[0]+1) out_channels`` for the head; ``(f[l]+1) out_channels`` for each auxiliary
        head, l = 1 to ``global_levels - 1``. A training step stores one map of logits per attention with positions:
        for a sample of 64x64x64 voxels, with the default arguments, 4 MiB times 8 heads for each of the 6 global
        attentions on the stem's grid, with ``stem_pool=2`` a sixteenth of it.

    References:
        J. M. J. Valanarasu et al., "Medical Transformer: Gated Axial-Attention for Medical Image Segmentation", MICCAI
        2021, arXiv:2102.10662. Consulted: https://github.com/jeya-maria-jose/Medical-Transformer, ``MedT`` and
        ``logo``.
    """

    # the deepest levels are those of the local branch, whose windows are halves of a patch
    least_voxels: ClassVar[int] = 8
    fewest_steps: ClassVar[int] = 3

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
        global_levels: int = 2,
        window_size: int | Sequence[int] = 32,
        window_grid: int | Sequence[int] | None = None,
        branches: Sequence[str] = BRANCHES,
        attention: Sequence[str] = BRANCHES,
        form: str = "gated",
        local_form: str = "position_free",
        token_grid: int | Sequence[int] = 32,
        num_heads: int = 8,
        decoder_norm: bool = False,
        norm: str | tuple = INSTANCE,
        dropout: float = 0.0,
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> None:
        check_spatial_dims(spatial_dims)
        check_attention_parts(attention, BRANCHES)
        levels = len(features)
        if levels < 2:
            raise ValueError(f"features must name at least 2 levels, got {tuple(features)}; add a level")
        if not 1 <= global_levels < levels:
            raise ValueError(
                f"global_levels must lie between 1 and {levels - 1} for these features, got {global_levels}; "
                "use for example 1"
            )
        if local_form not in FORMS:  # the local branch would call it form
            raise ValueError(f"local_form must be one of {FORMS}, got {local_form!r}; choose one")
        if not branches or set(branches) - set(BRANCHES):
            raise ValueError(f"branches must hold one or both of {BRANCHES}, got {tuple(branches)}; leave out the rest")
        if deep_supervision and (global_levels < 2 or "global" not in branches):
            raise ValueError(
                f"deep_supervision needs a global branch of 2 levels, got {global_levels} and branches "
                f"{tuple(branches)}; raise global_levels or leave deep_supervision out"
            )
        steps = per_level(strides, levels - 1, spatial_dims, "strides")
        kernels = per_level(kernel_size, levels, spatial_dims, "kernel_size")
        pool = per_axis(stem_pool, spatial_dims, "stem_pool")
        super().__init__(in_channels, [*steps[:global_levels], pool], deep_supervision)
        self.unit_size = [prod(step) for step in zip(*steps, pool, strict=True)]
        self.window_size = self._fitting(list(per_axis(window_size, spatial_dims, "window_size")))
        self.by_number = window_grid is not None
        self.window_grid = list(per_axis(1 if window_grid is None else window_grid, spatial_dims, "window_grid"))
        grid = per_axis(token_grid, spatial_dims, "token_grid")
        stem = [step * pooling for step, pooling in zip(steps[0], pool, strict=True)]
        window = self._windows([tokens * n for tokens, n in zip(grid, stem, strict=True)])[1]
        window_tokens = [n // part for n, part in zip(window, stem, strict=True)]

        def branch(name: str, depth: int, form: str, grid: Sequence[int]) -> AxialBranch | None:
            if name not in branches:
                return None
            return AxialBranch(
                spatial_dims,
                in_channels,
                features=features[: depth + 1],
                strides=steps[:depth],
                kernel_size=kernels[: depth + 1],
                stem_convolutions=stem_convolutions,
                stem_pool=pool,
                stem_skip=stem_skip,
                num_units=num_units[:depth],
                use_attention=name in attention,
                form=form,
                token_grid=grid,
                num_heads=num_heads,
                bottom=name == "local",
                decoder_norm=decoder_norm,
                norm=norm,
                dropout=dropout,
                checkpointing=checkpointing,
            )

        self.global_branch = branch("global", global_levels, form, grid)
        self.local_branch = branch("local", levels - 1, local_form, window_tokens)
        self.fuse = Convolution(
            spatial_dims,
            features[0],
            features[0],
            kernel_size=kernels[0],
            act="relu",
            norm=norm if decoder_norm else None,
            adn_ordering="NA",
            bias=True,
        )
        self.add_heads(spatial_dims, features[:global_levels], out_channels)

    @classmethod
    def patch_arguments(cls, patch_size: Sequence[int], arguments: Mapping[str, Any]) -> dict[str, list[int]]:
        """Return ``token_grid``, the grid of the patch after the stem, and ``window_size`` unless windows are counted.

        Windows are half a patch, rounded up to what the local branch can take, or a whole one along axes where half
        would be few voxels.

        Args:
            patch_size: voxels of the training patch per axis.
            arguments: arguments of the constructor; one that is missing has its default.

        Example:
            >>> arguments = {"features": [32, 32, 64, 128], "strides": [1, 2, 1], "stem_pool": 2}
            >>> MedicalTransformer.patch_arguments((40, 56, 8), arguments)
            {'token_grid': [20, 28, 4], 'window_size': [20, 28, 8]}
        """
        implied = super().patch_arguments(patch_size, arguments)
        if cls._argument(arguments, "window_grid") is None:
            units = map(prod, zip(*cls.steps_of(arguments, len(patch_size)), strict=True))
            halves = [-(-n // (2 * unit)) * unit for n, unit in zip(patch_size, units, strict=True)]
            implied["window_size"] = [
                half if half >= LEAST_WINDOW else n for half, n in zip(halves, patch_size, strict=True)
            ]
        return implied

    def _fitting(self, size: list[int]) -> list[int]:
        """Return the size rounded up to one that the local branch can take: two voxels or more on its coarsest grid."""
        fitting = [(size[axis] + unit - 1) // unit * unit for axis, unit in enumerate(self.unit_size)]
        if fitting == self.unit_size:
            fitting[-1] *= 2
        return fitting

    def _windows(self, size: list[int]) -> tuple[list[int], list[int]]:
        """Return number and size of the windows per axis for an image of that size."""
        window = self.window_size
        if self.by_number:
            grid = self.window_grid
            window = self._fitting([(s + grid[axis] - 1) // grid[axis] for axis, s in enumerate(size)])
        return [(s + window[axis] - 1) // window[axis] for axis, s in enumerate(size)], window

    def coarsest_grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the voxels per axis of the coarsest grid of the branches, the local one's in a window.

        Args:
            size: voxels of the input per axis, divisible by ``size_divisor``.

        Example:
            >>> net = MedicalTransformer(3, 1, 3, features=(4, 8, 16, 16), num_units=(1, 1, 1), window_size=16)
            >>> net.coarsest_grid((64, 48, 40))
            (2, 2, 2)
        """
        grid = super().coarsest_grid(size)
        if self.local_branch is None:
            return grid
        window = self._windows(list(size))[1]
        return tuple(min(n, w // unit) for n, w, unit in zip(grid, window, self.unit_size, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            check_input(x, self.in_channels, self.size_divisor)
        size = list(x.shape[2:])
        outputs: list[Tensor] = []
        if self.global_branch is not None:
            outputs = self.global_branch(x)
        if self.local_branch is not None:
            counts, window = self._windows(size)
            y = self.local_branch(fold_windows(x, counts, window))[-1]
            y = unfold_windows(y, counts, size)
            if len(outputs) > 0:
                y = outputs.pop() + y
            outputs.append(y)
        outputs.append(self.fuse(outputs.pop()))
        return self.logits(outputs)
