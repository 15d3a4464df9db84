"""Sizes of images from their headers, before any voxel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import nibabel as nib
import nrrd
import numpy as np

from custom_networks.workflow.data.formats.grid import Grid, Shape

# axes of NRRD whose first two point the other way than those of NIfTI
LPS = ("left-posterior-superior", "lps")


def read_header(path: str) -> Grid | None:
    """Return the grid of a NIfTI or NRRD file, ``None`` for a DICOM series.

    Args:
        path: the file, of which no voxel is read. The affine of an NRRD file lacks its origin.
    """
    if path.lower().endswith(".nrrd"):
        header = nrrd.read_header(path)
        directions = np.asarray(header.get("space directions", np.eye(3)), dtype=float)
        spatial = np.isfinite(directions).all(axis=1)
        affine = np.eye(4)
        affine[:3, :3] = directions[spatial].T
        if str(header.get("space", "")).lower() in LPS:
            affine[:2] *= -1
        sizes = np.asarray(header["sizes"], dtype=int)
        return Grid(tuple(sizes[spatial].tolist()), int(sizes[~spatial].prod()), affine)
    if path.lower().endswith((".nii", ".nii.gz")):
        image = nib.load(path)
        shape = tuple(int(n) for n in image.shape)  # type: ignore[attr-defined]
        return Grid(shape[:3], math.prod(shape[3:]), image.affine)  # type: ignore[attr-defined]
    return None


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


def shapes_of(path: str, spacing: Sequence[float]) -> tuple[Shape, Shape] | None:
    """Return the voxels per axis of an image in its file and at the network's spacing, ``None`` for a DICOM series.

    Args:
        path: a NIfTI or NRRD file, of which only the header is read.
        spacing: voxel size in mm of the network.
    """
    header = read_header(path)
    if header is None:
        return None
    shape, sizes = in_ras(header[0], header[2])
    return shape, at_spacing(shape, sizes, spacing)


def spatial_image(data: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """Return a NIfTI image in millimetres whose qform and sform agree, so that every reader sees the same geometry.

    Args:
        data: voxels.
        affine: voxels to mm, RAS.
    """
    image = nib.Nifti1Image(np.ascontiguousarray(data), affine)
    image.set_qform(affine, code=2)
    image.header.set_xyzt_units("mm")
    return image
