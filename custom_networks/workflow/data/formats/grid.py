"""The voxels of an image and where they lie, as every format says it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Grid(NamedTuple):
    """The voxels of an image and where they lie.

    Args:
        shape: voxels per axis as stored.
        channels: number of channels.
        affine: voxels to mm, RAS.
        notes: what a header leaves open or says twice, and how that was decided: sentences without their subject,
            which is the file.
    """

    shape: Shape
    channels: int
    affine: np.ndarray
    notes: tuple[str, ...] = ()
