"""Scans as they might have been taken as well: the head turned or moved, slices thicker, axes in another order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

from custom_networks.workflow.locate.grids import apply, corners

Change = Callable[[np.ndarray, np.ndarray, bool], tuple[np.ndarray, np.ndarray]]
"""From voxels ``(X, Y, Z)``, their affine, and whether they are an indicator of a structure, to other ones."""


def _within(values: np.ndarray, before: np.ndarray, indicator: bool) -> np.ndarray:
    """Return interpolated values as they may be: 0 and 1 of an indicator, those of an image within its range."""
    return (values >= 0.5).astype(np.float32) if indicator else values.clip(before.min(), before.max())


def turn(
    voxels: np.ndarray, affine: np.ndarray, indicator: bool, degrees: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    r"""Turn what is in a scan about its centre, while the grid keeps the directions of its axes.

    With the rotation :math:`R` about the centre :math:`c` in mm, what is at :math:`x` goes to :math:`R (x - c) + c`.
    The grid becomes large enough to hold it. Images are interpolated by cubic splines, which blur the least, and stay
    within their range; indicators linearly, and from one half on they hold.

    Args:
        voxels: ``(X, Y, Z)``, float32.
        affine: ``(4, 4)``, voxels to mm.
        indicator: whether the values are 0 and 1.
        degrees: about the axes to the right, to the front and up.

    Shape:
        ``(X', Y', Z')``, float32, and ``(4, 4)``.
    """
    ends = corners(voxels.shape, affine)
    centre = ends.mean(axis=0)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    motion[:3, 3] = centre - motion[:3, :3] @ centre
    reached = apply(np.linalg.inv(affine) @ motion, ends)
    low, high = np.floor(reached.min(axis=0)), np.ceil(reached.max(axis=0))
    turned = affine.copy()
    turned[:3, 3] = apply(affine, low)
    way = np.linalg.inv(affine) @ np.linalg.inv(motion) @ turned
    shape = tuple(int(n) for n in high - low + 1)
    order = 1 if indicator else 3
    values = ndimage.affine_transform(
        voxels, way[:3, :3], way[:3, 3], shape, order=order, cval=float(voxels.min()), prefilter=not indicator
    )
    return _within(values, voxels, indicator), turned


def shift(
    voxels: np.ndarray, affine: np.ndarray, indicator: bool, millimetres: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Move a scan in the world, as if the table had stood elsewhere.

    Args:
        voxels: ``(X, Y, Z)``.
        affine: ``(4, 4)``, voxels to mm.
        indicator: makes no difference.
        millimetres: to the right, to the front and up.
    """
    del indicator
    moved = affine.copy()
    moved[:3, 3] += millimetres
    return voxels, moved


def thicken(voxels: np.ndarray, affine: np.ndarray, indicator: bool, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Average slices that lie above each other, as a scan with thicker ones does; those left over at the top fall away.

    Args:
        voxels: ``(X, Y, Z)``, float32, the third axis about upwards.
        affine: ``(4, 4)``, voxels to mm.
        indicator: whether the values are 0 and 1; from one half on they hold.
        slices: how many make one.

    Shape:
        ``(X, Y, Z // slices)``, float32, and ``(4, 4)``.
    """
    kept = voxels.shape[2] // slices
    mean = voxels[..., : kept * slices].reshape(*voxels.shape[:2], kept, slices).mean(axis=-1)
    pooled = np.diag([1.0, 1.0, slices, 1.0])
    pooled[2, 3] = (slices - 1) / 2
    return _within(mean, voxels, indicator), affine @ pooled


def store(voxels: np.ndarray, affine: np.ndarray, indicator: bool, axes: str) -> tuple[np.ndarray, np.ndarray]:
    """Store a scan with its axes in another order and direction; nothing moves in mm.

    Args:
        voxels: ``(X, Y, Z)``.
        affine: ``(4, 4)``, voxels to mm.
        indicator: makes no difference.
        axes: where they point, such as "LPS".
    """
    del indicator
    way = ornt_transform(io_orientation(affine), axcodes2ornt(axes))
    image = nib.Nifti1Image(voxels, affine).as_reoriented(way)
    return np.asarray(image.dataobj), np.asarray(image.affine)


AS_IT_IS = "as it is"
POSES: dict[str, Change] = {
    AS_IT_IS: partial(store, axes="RAS"),
    "nodding by 15°": partial(turn, degrees=(15, 0, 0)),
    "leaning by 15°": partial(turn, degrees=(0, 15, 0)),
    "looking aside by 15°": partial(turn, degrees=(0, 0, 15)),
    "moved by 30 mm along each axis": partial(shift, millimetres=(30, 30, 30)),
    "stored as LPS": partial(store, axes="LPS"),
    "stored as ASR": partial(store, axes="ASR"),
    "three slices averaged": partial(thicken, slices=3),
}
"""What is done to a scan, by what it is called; the last makes another image, whose Dice is not comparable."""
