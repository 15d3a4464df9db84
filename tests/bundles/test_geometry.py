"""A voxel comes back to its place: any shape, spacing, orientation and format, through the bundle's own chain."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK

from tests.fuzz.chain import build_chain
from tests.synthetic import write_nifti
from tests.workflow.data.formats.dicom_writer import rotation, slices, write

TRIES = 75  # of each format
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def segment(tmp_path_factory) -> Callable[[Path], nib.Nifti1Image]:
    """Return a function that runs a bundle's transforms around a network that finds what is bright."""
    chain = build_chain(tmp_path_factory.mktemp("masks"))
    return lambda path: nib.load(chain(path))


def write_nrrd_file(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Write the voxels in the space LPS, RAS or LAS, by turns."""
    space, signs = [
        ("left-posterior-superior", (-1, -1)),
        ("right-anterior-superior", (1, 1)),
        ("left-anterior-superior", (-1, 1)),
    ][int(voxels.shape[0]) % 3]
    stored = np.diag([*signs, 1.0, 1.0]) @ affine
    header = {"space": space, "space directions": stored[:3, :3].T, "space origin": stored[:3, 3]}
    path = path / "image.nrrd"
    nrrd.write(str(path), voxels, header)
    return path


def write_metaimage(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Write the voxels with ITK's own writer, which counts in LPS."""
    image, lps = SimpleITK.GetImageFromArray(voxels.T), LPS @ affine
    size = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(size.tolist())
    image.SetDirection((lps[:3, :3] / size).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    path = path / "image.mha"
    SimpleITK.WriteImage(image, str(path))
    return path


def write_dicom(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Write the voxels as a series whose files are in no order."""
    data = slices((1000 * voxels).astype(np.uint16), LPS @ affine, InstanceNumber=lambda z: (7 * z) % 5)
    return write(path / "1.2.840.7", [data[i] for i in np.random.default_rng(0).permutation(len(data))])


WRITERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], Path]] = {
    "NIfTI": lambda path, voxels, affine: write_nifti(voxels, path / "image.nii.gz", affine),
    "NRRD": write_nrrd_file,
    "MetaImage": write_metaimage,
    "DICOM": write_dicom,
}


def random_affine(chance: np.random.Generator) -> np.ndarray:
    """Return an affine of a random orientation code and spacing, oblique or not."""
    axes = np.eye(3)[chance.permutation(3)] * chance.choice([-1.0, 1.0], 3)
    if chance.random() < 0.5:
        axes = rotation(*chance.uniform(-25, 25, 3)) @ axes
    if np.linalg.det(axes) < 0:  # the slices of a DICOM series are counted along their normal
        axes[:, 2] *= -1
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(chance.uniform(0.6, 2.5, 3))
    affine[:3, 3] = chance.uniform(-80, 80, 3)
    return affine


@pytest.mark.parametrize("kind", WRITERS)
def test_a_marked_voxel_returns_to_its_place(segment, tmp_path, kind):
    chance = np.random.default_rng(list(WRITERS).index(kind))
    for number in range(TRIES):
        shape = chance.integers(9, 20, 3)
        if number % 10 == 0:
            shape[chance.integers(3) if kind != "DICOM" else 2] = 1  # a single slice
        affine = random_affine(chance)
        marked = np.array([chance.integers(n // 2 - 1, n // 2 + 1) if n > 1 else 0 for n in shape])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        image = np.exp(-(((grid - marked) / 1.5) ** 2).sum(-1) / 2).astype(np.float32)
        folder = tmp_path / str(number)
        folder.mkdir()
        mask = segment(WRITERS[kind](folder, image, affine))
        told = f"{kind} {number}: {shape} voxels, affine {affine.tolist()}"
        assert mask.shape == tuple(shape), told
        np.testing.assert_allclose(mask.affine, affine, atol=2e-4, err_msg=told)
        centre = np.argwhere(np.asarray(mask.dataobj)).mean(axis=0)
        assert np.abs(centre - marked).max() < 0.5, f"{told}; marked {marked}, found {centre}"


def test_the_48_orientations_give_one_mask(segment, tmp_path):
    chance = np.random.default_rng(0)
    image = np.zeros((14, 17, 12), np.float32)
    image[3:8, 4:13, 2:6], image[8:11, 4:7, 2:9] = 1, 1
    image += 0.05 * chance.random(image.shape, dtype=np.float32)
    path = write_nifti(image, tmp_path / "image.nii.gz", np.diag([1.2, 0.8, 1.5, 1]))
    expected = np.asarray(segment(path).dataobj)
    assert 0 < expected.sum() < expected.size / 2
    canonical, masks = nib.load(path), 0
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((-1, 1), repeat=3):
            turned = canonical.as_reoriented(np.stack([axes, signs], axis=1))
            stored = write_nifti(np.asarray(turned.dataobj), tmp_path / "turned.nii.gz", turned.affine)
            mask = nib.as_closest_canonical(segment(stored))
            np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
            np.testing.assert_allclose(mask.affine, canonical.affine, atol=1e-5)
            masks += 1
    assert masks == 48
