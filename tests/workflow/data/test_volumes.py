"""The one reader: integers for labels, several files as channels, and the same for adapt, check and runs."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged

from custom_networks.workflow import VolumeReader
from custom_networks.workflow.data.volumes import as_integers, read_grid, read_volume
from tests.synthetic import write_nifti

SHAPE = (4, 5, 6)


def array(value: float = 0, dtype=np.float32) -> np.ndarray:
    return (np.arange(120).reshape(SHAPE) + value).astype(dtype)


def load(**given) -> dict:
    reader = LoadImaged("x", reader=VolumeReader(labels="dtype" in given), **given)
    return lambda path: reader({"x": path})["x"]


def test_what_monai_loads_is_what_is_read(tmp_path):
    affine = np.diag([-1.0, 2, 3, 1])
    path = write_nifti(array(), tmp_path / "a.nii.gz", affine)
    for volume in (read_volume(path), load()(str(path))):
        assert volume.dtype == torch.float32
        torch.testing.assert_close(volume.as_tensor(), torch.from_numpy(array())[None])
        np.testing.assert_allclose(volume.affine, affine)
        np.testing.assert_allclose(volume.meta["original_affine"], affine)


def test_labels_are_integers_end_to_end(tmp_path):
    values = np.zeros(SHAPE, np.int32)
    values[0, 0, :2] = 614454277, 614454278
    path = write_nifti(values, tmp_path / "a.nii.gz")
    for label in (read_volume(path, labels=True), load(dtype=None)(str(path))):
        assert label.dtype == torch.int32
        assert torch.unique(label.as_tensor()).tolist() == [0, 614454277, 614454278]


@pytest.mark.parametrize(
    ("stored", "wanted", "dtype"),
    [
        ([0, 3.0000002, -1.0009], [0, 3, -1], np.int32),
        (np.array([2**24 + 1], np.float64), [2**24 + 1], np.int32),
        (np.array([2**40, 0]), [2**40, 0], np.int64),
        (np.array([255], np.uint8), [255], np.int32),
        (np.array([True, False]), [1, 0], np.int32),
        (np.array([], np.uint8), [], np.int32),
    ],
)
def test_what_is_rounded(stored, wanted, dtype):
    read = as_integers("a.nii", np.asarray(stored))
    assert read.tolist() == wanted
    assert read.dtype == dtype


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (1.0011, "1.0011"), (np.nan, "nan"), (-np.inf, "-inf")])
def test_a_value_that_is_no_integer(value, shown):
    with pytest.raises(ValueError, match=rf"\Aa.nii holds the label value {shown}, which is no integer; correct"):
        as_integers("a.nii", np.array([1, 2, value]))


def test_a_value_beyond_64_bits():
    with pytest.raises(ValueError, match=r"a.nii holds the label value 1.84467e\+19, beyond 64 bits"):
        as_integers("a.nii", np.array([2**64 - 1], np.uint64))


def test_several_files_are_channels(tmp_path):
    paths = [str(write_nifti(array(n), tmp_path / f"a_{n:04d}.nii.gz", np.eye(4))) for n in range(3)]
    grid = read_grid(paths)
    assert grid[:2] == (SHAPE, 3)
    for volume in (read_volume(paths), load()(paths)):
        torch.testing.assert_close(volume.as_tensor(), torch.stack([torch.from_numpy(array(n)) for n in range(3)]))
    assert load()(paths).meta["filename_or_obj"] == paths[0]


@pytest.mark.parametrize(
    ("other", "affine", "words"),
    [
        (array()[:3], np.eye(4), r"b.nii has shape \(3, 5, 6\) but .*a.nii, another channel of the image, \(4, 5, 6\)"),
        (array(), np.diag([1, 1, 1.5, 1]), "b.nii has another affine than .*a.nii, .* by up to 2.5 mm; resample"),
        (array(), np.diag([1, 1, 1.0025, 1]), "b.nii has another affine than .*a.nii, .* by up to 0.0125 mm; resample"),
    ],
)
def test_channels_on_another_grid(tmp_path, other, affine, words):
    paths = [
        write_nifti(array(), tmp_path / "a.nii", np.eye(4)),
        write_nifti(other, tmp_path / "b.nii", affine),
    ]
    with pytest.raises(ValueError, match=words):
        read_grid(paths)
    with pytest.raises(ValueError, match=words):  # MONAI would bury the sentence of what is raised in read()
        load()(paths)


def test_the_notes_of_all_channels_are_kept(tmp_path):
    paths = [write_nifti(array(n), tmp_path / f"{n}.nii", np.eye(4)) for n in range(2)]
    image = nib.Nifti1Image(array(), np.diag([1.001, 1, 1, 1]))
    image.header.set_xyzt_units("unknown")
    image.header["sform_code"], image.header["qform_code"] = 0, 0
    header = image.header
    nib.Nifti1Image(array(), None, header).to_filename(paths[1])
    with pytest.raises(ValueError, match="has another affine"):
        read_grid(paths)
    assert len(read_grid(paths[1]).notes) == 1
    assert read_grid(paths[1:] * 2).notes == read_grid(paths[1]).notes


def test_other_formats_are_refused_by_name(tmp_path):
    (tmp_path / "a.mgz").write_bytes(b"x" * 200)
    with pytest.raises(ValueError, match=r"a.mgz is none of .nii.gz, .nii, .nrrd, .mha, .mhd and no DICOM; convert it"):
        read_volume(tmp_path / "a.mgz")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*b.nii"):
        read_volume(tmp_path / "b.nii")
