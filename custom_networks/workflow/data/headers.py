"""Sizes of images from their headers, before any voxel is read."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np

from custom_networks.workflow.data.cases import Files
from custom_networks.workflow.data.formats.grid import Shape
from custom_networks.workflow.data.formats.nifti import TOLERANCE
from custom_networks.workflow.data.volumes import read_grid


def in_ras(shape: Sequence[int], affine: np.ndarray) -> tuple[Shape, tuple[float, ...]]:
    """Return voxels, and mm per voxel, along the axes of RAS, to which images are turned.

    Args:
        shape: voxels per axis as stored.
        affine: of the file.

    Example:
        >>> in_ras((10, 20, 30), np.array([[0, 2.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 5.0, 0], [0, 0, 0, 1]]))
        ((20, 10, 30), (2.0, 1.0, 5.0))
    """
    axes = [int(axis) for axis in nib.io_orientation(affine)[:, 0]]
    sizes = [float(size) for size in np.linalg.norm(affine[:3, :3], axis=0)]
    stored = [axes.index(axis) for axis in range(3)]
    return tuple(int(shape[axis]) for axis in stored), tuple(sizes[axis] for axis in stored)


def at_spacing(shape: Sequence[int], sizes: Sequence[float], spacing: Sequence[float]) -> Shape:
    """Return the voxels per axis of an image after resampling.

    Args:
        shape: voxels per axis.
        sizes: mm per voxel.
        spacing: mm per voxel afterwards.

    Example:
        >>> at_spacing((10, 20, 30), (2.0, 1.0, 5.0), (1.0, 1.0, 5.0))
        (19, 20, 30)
    """
    # between the centres of the first and the last voxel, both of which stay
    return tuple(round((n - 1) * old / new + 1) for n, old, new in zip(shape, sizes, spacing, strict=True))


def shapes_of(files: Files, spacing: Sequence[float], series: str | None = None) -> tuple[Shape, Shape]:
    """Return the voxels per axis of an image in its file and at the network's spacing.

    Args:
        files: a file, the folder of a DICOM series, or one file per channel, of which only headers are read.
        spacing: voxel size in mm of the network.
        series: SeriesInstanceUID to take from a folder of several.
    """
    grid = read_grid(files, series)
    shape, sizes = in_ras(grid.shape, grid.affine)
    return shape, at_spacing(shape, sizes, spacing)


def spatial_image(data: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """Return a NIfTI image in millimetres whose qform and sform agree, so that every reader sees the same geometry.

    A sheared affine, such as that of a tilted gantry, stands in the sform alone, since no qform holds it.

    Args:
        data: voxels.
        affine: voxels to mm, RAS.
    """
    image = nib.Nifti1Image(np.ascontiguousarray(data), affine, dtype=data.dtype)
    image.set_qform(affine, code=2)
    if not np.allclose(image.get_qform(), affine, rtol=0, atol=TOLERANCE):
        image.set_qform(None, code=0)
    image.header.set_xyzt_units("mm")
    return image
