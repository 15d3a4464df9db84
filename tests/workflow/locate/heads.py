"""Images of heads for the tests of the registration, and heads turned, moved, cut and drawn anew."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tests.conftest import SHARED

OASIS = SHARED / "data" / "OASIS12_1mm"
COLIN = Path("/usr/share/mricron/templates/ch2.nii.gz")
POINTS = np.array([(-23.0, -23.5, -12.0), (25.5, -22.5, -11.5)])
"""Left and right hippocampus in MNI space, in which Colin 27 lies, too."""


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        pytest.skip(f"{path.name} is not at {path.parent}")
    image = nib.load(path)
    return image.get_fdata(dtype=np.float32), image.affine


def colin() -> tuple[np.ndarray, np.ndarray]:
    return read(COLIN)


def brains() -> list[Path]:
    return sorted((OASIS / "imagesTr").glob("*.nii.gz"))


def moved(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return points @ affine[:3, :3].T + affine[:3, 3]


def motion(rotation: Rotation, scale=(1, 1, 1), shift=(0, 0, 0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = rotation.as_matrix() @ np.diag(scale)
    affine[:3, 3] = shift
    return affine


def random_pose(rng: np.random.Generator) -> np.ndarray:
    axis = rng.normal(size=3)
    rotation = Rotation.from_rotvec(axis / np.linalg.norm(axis) * rng.uniform(0, 20), degrees=True)
    return motion(rotation, rng.uniform(0.92, 1.08, 3), rng.uniform(-40, 40, 3))


def bias(shape, rng: np.random.Generator) -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    return np.exp(sum(weight * axis for weight, axis in zip(rng.uniform(-0.3, 0.3, 3), axes, strict=True)))


def drawn(voxels: np.ndarray, affine: np.ndarray, spacing, turn: np.ndarray | None = None):
    """Return an image sampled anew on a grid of the given spacing, along the world's axes or turned ones."""
    turn = np.eye(3) if turn is None else turn
    centre = affine[:3, :3] @ ((np.array(voxels.shape) - 1) / 2) + affine[:3, 3]
    shape = np.ceil(np.linalg.norm(affine[:3, :3], axis=0) * voxels.shape / spacing).astype(int)
    grid = np.eye(4)
    grid[:3, :3] = turn * spacing
    grid[:3, 3] = centre - grid[:3, :3] @ ((shape - 1) / 2)
    way = np.linalg.inv(affine) @ grid
    return ndimage.affine_transform(voxels, way[:3, :3], way[:3, 3], tuple(shape), order=1), grid


def ordered(voxels: np.ndarray, affine: np.ndarray, codes: str):
    """Return the same image with its voxels stored in another order of axes, such as LPS."""
    image = nib.Nifti1Image(voxels, affine)
    there = nib.orientations.axcodes2ornt(tuple(codes))
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), there))
    assert "".join(nib.aff2axcodes(image.affine)) == codes
    return np.asarray(image.dataobj), image.affine
