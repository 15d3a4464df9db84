"""What the axial segmentation networks share: a stem with strides and a pooling, and attention on the grid after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from custom_networks.checks import per_axis
from custom_networks.nets.segmenter import Segmenter, doubling

# axial blocks of each level but the first
PAPER_UNITS = (1, 2, 4, 1)


class AxialSegmenter(Segmenter):
    """Base of a network of axial branches, whose stem has the first strides and ``stem_pool``.

    Args:
        in_channels: channels of the image.
        strides: down-sampling per axis of each step; ``size_divisor`` is their product.
        deep_supervision: whether the coarser decoder levels have heads.
    """

    @classmethod
    def steps_of(cls, arguments: Mapping[str, Any], spatial_dims: int) -> list[tuple[int, ...]]:
        """Return the down-sampling per axis of each step: the first strides, ``stem_pool``, the other strides.

        Args:
            arguments: arguments of the constructor; one that is missing has its default.
            spatial_dims: 2 or 3.
        """
        first, *others = super().steps_of(arguments, spatial_dims)
        return [first, per_axis(cls._argument(arguments, "stem_pool"), spatial_dims, "stem_pool"), *others]

    def is_local(self) -> bool:
        """Return that the logits do not depend on what is near only.

        Axial attention takes in whole lines, and without it the branch's coarsest step resizes from a grid that need
        not divide the window.
        """
        return False

    @classmethod
    def step_arguments(
        cls, strides: Sequence[Sequence[int]], kernel_size: Sequence[Sequence[int]]
    ) -> dict[str, list[Any]]:
        """Return the arguments of the constructor for given steps; the grid between the stem's two has no kernel.

        Args:
            strides: down-sampling per axis of each step.
            kernel_size: kernel per axis before each step and after the last.
        """
        return {
            "strides": [list(step) for step in (strides[0], *strides[2:])],
            "stem_pool": list(strides[1]),
            "kernel_size": [list(kernel) for kernel in (kernel_size[0], *kernel_size[2:])],
        }

    @classmethod
    def scaled_arguments(cls, steps: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the constructor for a network of full width that halves its input so many times.

        The first halving is ``stem_pool``, so that the stem is on the image's grid and the attention is not; the
        blocks per level are the paper's, one on levels that the paper has none of.

        Args:
            steps: how many times, 2 or more.
            arguments: arguments of the constructor; one that is missing has its default.

        Example:
            >>> from custom_networks.nets import AxialUnet
            >>> AxialUnet.scaled_arguments(3, {})["features"], AxialUnet.scaled_arguments(3, {})["num_units"]
            ([32, 32, 64, 128], [1, 2, 4])
        """
        first, *others = doubling(steps)
        return {
            "features": [first, first, *others],
            "strides": [1, *[2] * (steps - 1)],
            "stem_pool": 2,
            "num_units": [*PAPER_UNITS, *[1] * steps][:steps],
        }

    @classmethod
    def patch_arguments(cls, patch_size: Sequence[int], arguments: Mapping[str, Any]) -> dict[str, list[int]]:
        """Return ``token_grid``, the grid of the patch after the stem.

        Args:
            patch_size: voxels of the training patch per axis.
            arguments: arguments of the constructor; one that is missing has its default.

        Example:
            >>> from custom_networks.nets import AxialUnet
            >>> AxialUnet.patch_arguments((40, 56, 40), {"strides": [1, 2, 1, 1], "stem_pool": 2})
            {'token_grid': [20, 28, 20]}
        """
        stem = cls.steps_of(arguments, len(patch_size))[:2]
        return {"token_grid": [-(-n // (s * p)) for n, s, p in zip(patch_size, *stem, strict=True)]}
