"""Grids in mm: affines applied to points, an image on a coarse grid, the rotation in an affine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def corners(shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
    """Return the centres of the eight voxels in the corners of a grid.

    Args:
        shape: its number of voxels per axis.
        affine: ``(4, 4)``, voxels to mm.

    Shape:
        ``(8, 3)``, mm.
    """
    return apply(affine, np.array(list(itertools.product(*[(0, n - 1) for n in shape])), dtype=float))


def apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where an affine moves points.

    Args:
        affine: ``(4, 4)``.
        points: ``(..., 3)``.

    Example:
        >>> apply(np.diag([2.0, 1.0, 1.0, 1.0]), np.array([3.0, 4.0, 5.0])).tolist()
        [6.0, 4.0, 5.0]
    """
    return points @ affine[:3, :3].T + affine[:3, 3]


def rigid_part(affine: np.ndarray) -> np.ndarray:
    """Return the rotation nearest to the linear part of an affine, by its polar decomposition.

    Args:
        affine: ``(4, 4)`` with a positive determinant.

    Shape:
        ``(3, 3)``, orthonormal, its determinant 1.
    """
    left, _, right = np.linalg.svd(affine[:3, :3])
    return left @ right


def resample_coarsely(voxels: np.ndarray, affine: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return an image on a grid of ``step`` mm whose axes are those of the world, right, anterior, superior.

    Voxels that are at most half as large as a step are averaged first, so that fine detail does not alias; then the
    values between voxels are linear. Outside the image is its smallest value. An image that has this grid is returned
    as it is.

    Args:
        voxels: ``(X, Y, Z)``, float32.
        affine: ``(4, 4)``, voxels to mm, with any rotation, shear and order of axes.
        step: in mm.

    Shape:
        ``(X', Y', Z')``, float32, and ``(4, 4)``.
    """
    if np.array_equal(affine[:3, :3], step * np.eye(3)):
        return voxels, affine
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    for axis, size in enumerate(sizes):
        count = min(int(step / size + 1e-6), voxels.shape[axis])
        if count > 1:
            kept = voxels.shape[axis] // count
            parts = np.moveaxis(voxels, axis, 0)[: kept * count].reshape(kept, count, *np.delete(voxels.shape, axis))
            voxels = np.moveaxis(parts.mean(axis=1, dtype=np.float32), 0, axis)
            pooled = np.eye(4)
            pooled[axis, axis], pooled[axis, 3] = count, (count - 1) / 2
            affine = affine @ pooled
    ends = corners(voxels.shape, affine)
    coarse = np.diag([step, step, step, 1.0])
    coarse[:3, 3] = ends.min(axis=0)
    shape = tuple(int(n) for n in np.ceil(np.ptp(ends, axis=0) / step) + 1)
    back = np.linalg.inv(affine) @ coarse
    values = ndimage.affine_transform(
        voxels, back[:3, :3], back[:3, 3], output_shape=shape, order=1, cval=float(voxels.min())
    )
    return values, coarse
