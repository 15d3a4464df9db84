"""NIfTI: one affine where a header says two, units, what is no image of real numbers, and files that are damaged."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow.data.formats import nifti

SHAPE = (4, 5, 6)
QFORM = np.diag([0.7, 0.8, 2.0, 1.0])
SFORM = np.diag([-1.0, 1.0, 3.0, 1.0])


def voxels(shape=SHAPE, dtype=np.int16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def write(path: Path, *, qform=None, sform=None, zooms=None, unit=2, array=None, **fields) -> Path:
    """Write a file whose header holds what is given, right or wrong."""
    array = voxels() if array is None else array
    header = nib.Nifti1Image(array, None).header
    if zooms is not None:
        header.set_zooms(zooms)
    if qform is not None:
        header.set_qform(qform, 1)
    if sform is not None:
        header["sform_code"] = 1
        for name, row in zip("xyz", np.asarray(sform)[:3], strict=True):
            header[f"srow_{name}"] = row
    header["xyzt_units"] = unit
    for name, value in fields.items():
        header[name] = value
    nib.Nifti1Image(array, None, header).to_filename(path)
    return path


FORMS = {
    "both the same": ({"qform": QFORM, "sform": QFORM}, QFORM, []),
    "both, apart": (
        {"qform": QFORM, "sform": SFORM},
        SFORM,
        ["has sform and qform that place voxels up to 5.1 mm apart; the sform is taken"],
    ),
    "both, apart by less than a thousandth": (
        {"qform": QFORM, "sform": QFORM + np.diag([0, 0, 1e-4, 0])},
        QFORM + np.diag([0, 0, 1e-4, 0]),
        [],
    ),
    "qform": ({"qform": QFORM}, QFORM, []),
    "sform": ({"sform": SFORM, "zooms": (1, 1, 3)}, SFORM, []),
    "sform, other pixdim": (
        {"sform": SFORM, "zooms": (1, 1, 2)},
        SFORM,
        ["has voxels of 1 x 1 x 2 mm by its pixdim and 1 x 1 x 3 mm by its sform; the sform is taken"],
    ),
    "zero sform": ({"qform": QFORM, "sform": np.zeros((4, 4))}, QFORM, ["has a broken sform; its qform is taken"]),
    "flat sform": ({"qform": QFORM, "sform": SFORM * [1, 1, 0, 1]}, QFORM, ["has a broken sform; its qform is taken"]),
    "sform of NaN": ({"qform": QFORM, "sform": SFORM * np.nan}, QFORM, ["has a broken sform; its qform is taken"]),
    "broken qform": ({"qform": np.diag([1.0, 1, 3, 1]), "sform": SFORM, "quatern_b": 3}, SFORM, []),
    "micrometres": (
        {"sform": SFORM, "zooms": (1, 1, 3), "unit": 3},
        np.diag([-1e-3, 1e-3, 3e-3, 1]),
        ["is in units of one micron, read as millimetres"],
    ),
    "metres": (
        {"qform": np.diag([0.001, 0.001, 0.002, 1]), "unit": 1},
        np.diag([1.0, 1, 2, 1]),
        ["is in units of one meter, read as millimetres"],
    ),
    "half a micrometre": ({"qform": np.diag([5e-4, 5e-4, 5e-4, 1])}, np.diag([5e-4, 5e-4, 5e-4, 1]), []),
}


@pytest.mark.parametrize(("header", "affine", "notes"), FORMS.values(), ids=FORMS.keys())
def test_one_affine(tmp_path, header, affine, notes):
    path = write(tmp_path / "a.nii.gz", **header)
    grid = nifti.read_header(path)
    np.testing.assert_allclose(grid.affine, affine, atol=1e-6)
    assert list(grid.notes) == notes
    assert grid[:2] == (SHAPE, 1)
    if header.get("unit", 2) == 2 and "broken" not in "".join(notes):
        np.testing.assert_allclose(grid.affine, nib.load(path).affine)


def test_left_and_right_are_not_known(tmp_path):
    path = write(tmp_path / "a.nii", zooms=(1, 2, 3))
    grid = nifti.read_header(path)
    np.testing.assert_allclose(grid.affine, nib.load(path).affine)
    assert [note.split(":")[0] for note in grid.notes] == ["has neither sform nor qform"]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.float32, np.float64, np.uint64])
def test_the_voxels_in_their_own_type(tmp_path, ending, kind, dtype):
    array = voxels(dtype=np.dtype(dtype))
    path = tmp_path / f"A.B{ending}"
    header = kind.header_class(endianness=">" if np.dtype(dtype).byteorder == ">" else "<")
    header.set_data_dtype(dtype)
    kind(array, np.eye(4), header).to_filename(path)
    read = nifti.read_voxels(path)
    np.testing.assert_array_equal(read, array[None])
    assert read.dtype.kind == np.dtype(dtype).kind
    assert read.dtype.itemsize == np.dtype(dtype).itemsize


def test_channels_lie_on_the_fourth_axis(tmp_path):
    array = voxels((*SHAPE, 3))
    path = write(tmp_path / "a.nii", array=array, qform=QFORM)
    assert nifti.read_header(path)[:2] == (SHAPE, 3)
    np.testing.assert_array_equal(nifti.read_voxels(path), np.moveaxis(array, -1, 0))
    path = write(tmp_path / "b.nii", array=array[..., :1, None], qform=QFORM)
    np.testing.assert_array_equal(nifti.read_voxels(path)[0], array[..., 0])


def test_scaled_integers(tmp_path):
    image = nib.Nifti1Image(voxels(), QFORM)
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_array_equal(nifti.read_voxels(tmp_path / "a.nii"), nib.load(tmp_path / "a.nii").get_fdata()[None])


def rgb() -> np.ndarray:
    return np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))


REFUSED = {
    "colours": ({"array": rgb()}, "holds colours, not one real number per voxel"),
    "complex": ({"array": voxels().astype(np.complex64)}, "holds complex numbers, not one real number per voxel"),
    "vectors": (
        {"array": voxels((*SHAPE, 1, 3)), "intent_code": 1007},
        "holds a vector per voxel, shape (4, 5, 6, 1, 3) with the intent 'vector'",
    ),
    "2D": ({"array": voxels((4, 5))}, "has 2 axes, shape (4, 5); give a 3D image"),
    "no valid form": ({"sform": np.zeros((4, 4))}, "has a singular affine; correct the header"),
    "quaternion": ({"qform": QFORM, "quatern_b": 3}, "has a singular affine; correct the header"),
    "far away": (
        {"qform": nib.affines.from_matvec(np.eye(3), [0, 2e6, 0])},
        "has its first voxel 2e+06 mm from the origin; correct the header",
    ),
    "kilometres": ({"qform": np.diag([1e4, 1, 1, 1])}, "has voxels of 1e+04 x 1 x 1 mm, which no scanner makes"),
}


@pytest.mark.parametrize(("header", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(tmp_path, header, words):
    path = write(tmp_path / "a.nii.gz", **header)
    for read in (nifti.read_header, nifti.read_voxels):
        with pytest.raises(ValueError, match=re.escape(words)) as error:
            read(path)
        assert str(error.value).startswith(f"{path} {words}")


def flipped(data: bytes) -> bytes:
    """Return a stream whose voxels have changed without a trace but the checksum."""
    raw = bytearray(gzip.decompress(data))
    raw[400] ^= 1
    good, bad = data[-8:], gzip.compress(bytes(raw))
    return bad[:-8] + good


DAMAGED = {
    "empty": (lambda data: b"", "is empty"),
    "half": (lambda data: data[: len(data) // 2], "is truncated: it ends before its voxels do"),
    "checksum": (flipped, "is damaged: CRC check failed"),
    "not compressed": (gzip.decompress, "is no gzip file though its name ends in .gz"),
    "a page": (lambda data: gzip.compress(b"<html>" * 100), "is no NIfTI file"),
    "missing voxels": (lambda data: gzip.compress(gzip.decompress(data)[:-7]), "is truncated: "),
    "too many voxels": (
        lambda data: gzip.compress(gzip.decompress(data)[:42] + b"\xff\x7f" * 3 + gzip.decompress(data)[48:]),
        "claims 32767 x 32767 x 32767 voxels, more than a file of its size can hold",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_the_true_cause(tmp_path, damage, words):
    path = write(tmp_path / "a.nii.gz", qform=QFORM)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        nifti.read_voxels(path)
    assert str(error.value).startswith(f"{path} {words}")


def test_a_truncated_file_without_compression(tmp_path):
    path = write(tmp_path / "a.nii", qform=QFORM)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a.nii is truncated: its header promises 240 bytes .* and 239 are there"):
        nifti.read_header(path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=r"is compressed with gzip; name it \.nii\.gz"):
        nifti.read_header(path)


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nii", qform=QFORM)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"a.nii cannot be read: Permission denied\Z"):
        nifti.read_header(path)
