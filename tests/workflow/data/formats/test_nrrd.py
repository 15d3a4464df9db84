"""NRRD: every spelling of the space, channels first or last, what a header leaves out, and what is refused."""

from __future__ import annotations

import gzip
import itertools
import re

import nrrd as pynrrd
import numpy as np
import pytest
import SimpleITK

from custom_networks.workflow.data.formats import nrrd

SHAPE = (4, 5, 6)
DIRECTIONS = np.array([[0.8, 0.1, 0], [-0.1, 0.9, 0], [0, 0, 1.1]])
ORIGIN = np.array([1.0, 2.0, 3.0])
LPS = {"space": "left-posterior-superior", "space directions": DIRECTIONS, "space origin": ORIGIN}


def voxels(shape=SHAPE) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def affine(*signs: int) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = DIRECTIONS.T, ORIGIN
    result[:2] *= np.array(signs)[:, None]
    return result


def write(path, header, array=None):
    pynrrd.write(str(path), voxels() if array is None else array, header)
    return path


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1)),
        ("LPS", (-1, -1)),
        ("lps", (-1, -1)),
        ("right-anterior-superior", (1, 1)),
        ("RAS", (1, 1)),
        ("left-anterior-superior", (-1, 1)),
        ("LAS", (-1, 1)),
        ("Left-Posterior-Superior", (-1, -1)),
    ],
)
def test_every_spelling_of_the_space(tmp_path, space, signs):
    path = write(tmp_path / "a.nrrd", {**LPS, "space": space})
    grid = nrrd.read_header(path)
    np.testing.assert_allclose(grid.affine, affine(*signs))
    assert grid.notes == ()


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", "3D-left-handed"])
def test_a_space_without_left_and_right_is_said(tmp_path, space):
    path = write(tmp_path / "a.nrrd", {**LPS, "space": space})
    grid = nrrd.read_header(path)
    np.testing.assert_allclose(grid.affine, affine(-1, -1))
    assert grid.notes == (
        f"has the space {space.lower()}, which does not say left and right: left-posterior-superior is taken, as ITK "
        "does",
    )


def test_the_affine_is_that_of_itk(tmp_path):
    """An independent reader; SimpleITK counts in LPS."""
    for space, codes in (("left-posterior-superior", LPS), ("right-anterior-superior", LPS)):
        path = write(tmp_path / "a.nrrd", {**codes, "space": space})
        image, grid = SimpleITK.ReadImage(str(path)), nrrd.read_header(path)
        for index in itertools.product((0, 3), (0, 4), (0, 5)):
            position = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
            np.testing.assert_allclose((grid.affine @ [*index, 1])[:3], position, atol=1e-6)
        np.testing.assert_array_equal(nrrd.read_voxels(path)[0].T, SimpleITK.GetArrayFromImage(image))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["list", "vector", "???", "none", "time"])
@pytest.mark.parametrize("told", ["directions", "kinds", "spacings"])
def test_channels_first_or_last(tmp_path, last, kind, told):
    array = voxels((*SHAPE, 2) if last else (2, *SHAPE))
    place = 3 if last else 0
    kinds = ["domain"] * 3
    kinds.insert(place, kind)
    header = {
        "directions": {**LPS, "space directions": np.insert(DIRECTIONS, place, np.nan, axis=0), "kinds": kinds},
        "kinds": {"kinds": kinds},
        "spacings": {"spacings": np.insert(np.array([0.8, 0.9, 1.1]), place, np.nan)},
    }[told]
    path = write(tmp_path / "a.nrrd", header, array)
    assert nrrd.read_header(path)[:2] == (SHAPE, 2)
    np.testing.assert_array_equal(nrrd.read_voxels(path), np.moveaxis(array, place, 0))
    if told == "directions":
        np.testing.assert_allclose(nrrd.read_header(path).affine, affine(-1, -1))


LEFT_OUT = {
    "nothing": ({}, np.diag([-1.0, -1, 1, 1]), ["says neither directions nor spacings"]),
    "spacings only": (
        {"spacings": [0.8, 0.9, 1.1]},
        np.diag([-0.8, -0.9, 1.1, 1]),
        ["has spacings but no directions"],
    ),
    "no origin": (
        {key: LPS[key] for key in ("space", "space directions")},
        affine(-1, -1) * [1, 1, 1, 0] + np.diag([0, 0, 0, 1]),
        ["says no origin"],
    ),
    "micrometres": (
        {**LPS, "space units": ["um", "um", "um"]},
        affine(-1, -1) * np.array([[1e-3], [1e-3], [1e-3], [1]]),
        ["is in um, read as millimetres"],
    ),
}


@pytest.mark.parametrize(("header", "wanted", "notes"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_a_header_leaves_out(tmp_path, header, wanted, notes):
    grid = nrrd.read_header(write(tmp_path / "a.nrrd", header))
    np.testing.assert_allclose(grid.affine, wanted)
    assert [note.split(":")[0] for note in grid.notes] == notes


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
def test_encodings(tmp_path, encoding):
    path = write(tmp_path / "a.nrrd", {**LPS, "encoding": encoding})
    np.testing.assert_array_equal(nrrd.read_voxels(path), voxels()[None])


def test_names_of_fields_in_capitals(tmp_path):
    path = write(tmp_path / "a.nrrd", {**LPS, "encoding": "raw"})
    text, voxels_ = path.read_bytes().split(b"\n\n", 1)
    lines = [
        b":".join([line.split(b":")[0].title(), *line.split(b":")[1:]]) if b":" in line else line
        for line in text.split(b"\n")
    ]
    (tmp_path / "b.raw").write_bytes(voxels_)
    path.write_bytes(b"\n".join([*lines, b"Data File: b.raw", b"note:=Kept As It Is"]) + b"\n\n")
    np.testing.assert_array_equal(nrrd.read_voxels(path), voxels()[None])
    np.testing.assert_allclose(nrrd.read_header(path).affine, affine(-1, -1))


def test_compressed_in_two_parts_is_not_called_truncated_alone(tmp_path):
    path = write(tmp_path / "a.nrrd", {**LPS, "encoding": "gzip"})
    text, data = path.read_bytes().split(b"\n\n", 1)
    raw = gzip.decompress(data)
    path.write_bytes(text + b"\n\n" + gzip.compress(raw[:100]) + gzip.compress(raw[100:]))
    with pytest.raises(ValueError, match=r"a.nrrd holds other than the 120 values .* or compressed in several parts"):
        nrrd.read_voxels(path)


REFUSED = {
    "colours": ({"kinds": ["RGB-color", "domain", "domain", "domain"]}, (3, *SHAPE), "holds a rgb-color per voxel"),
    "tensors": ({"kinds": ["3D-matrix", *["domain"] * 3]}, (9, *SHAPE), "holds a 3d-matrix per voxel"),
    "2D": ({"kinds": ["domain", "domain"]}, (4, 5), "has 2 axes of [4, 5] values, of which 2 are said to be spatial"),
    "unnamed axis": ({}, (2, *SHAPE), "has 4 axes of [2, 4, 5, 6] values, of which 0 are said to be spatial"),
    "two lists": (
        {"kinds": ["list", "list", "domain", "domain", "domain"]},
        (2, 2, *SHAPE),
        "has 2 axes beside the spatial ones",
    ),
    "singular": ({**LPS, "space directions": DIRECTIONS * [1, 1, 0]}, SHAPE, "has a singular affine"),
    "units": ({**LPS, "space units": ["inch"] * 3}, SHAPE, "has the space units ['inch']"),
}


@pytest.mark.parametrize(("header", "shape", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(tmp_path, header, shape, words):
    path = write(tmp_path / "a.nrrd", header, voxels(shape))
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        nrrd.read_header(path)
    assert str(error.value).startswith(f"{path} {words}")


DAMAGED = {
    "half": (lambda data: data[:-60], "is truncated: its header promises 240 bytes of voxels (4 x 5 x 6) and 180 are"),
    "sizes": (lambda data: data.replace(b"sizes: 4 5 6", b"sizes: 32767 32767 32767"), "is truncated: its header"),
    "no NRRD": (lambda data: b"<html>" * 100, "cannot be read as NRRD (Invalid NRRD magic line"),
    "a hang": (lambda data: data.replace(b"\n\n", b"\nline skip: 99999999999\n\n", 1), "skips more than it holds"),
    "empty": (lambda data: b"", "is empty"),
    "skip of compressed": (
        lambda data: data.replace(b"encoding: raw", b"encoding: gzip\nbyte skip: 4"),
        "skips lines or bytes of compressed voxels",
    ),
    "axis mins": (
        lambda data: re.sub(rb"(?m)^space.*\n", b"", data).replace(b"\n\n", b"\naxis mins: 0 0 0\n\n", 1),
        "says its size by axis mins",
    ),
    "blocks": (lambda data: data.replace(b"type: int16", b"type: block"), "holds blocks of bytes"),
    "detached": (
        lambda data: data.replace(b"\n\n", b"\ndata file: ../b.raw\n\n", 1),
        "has its voxels in ",
    ),
    "endian": (lambda data: data.replace(b"endian: little\n", b""), "cannot be read as NRRD (Header is missing"),
    "dimension": (lambda data: data.replace(b"dimension: 3", b"dimension: 4"), "says dimension 4 and 3 sizes"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_the_true_cause(tmp_path, damage, words):
    path = write(tmp_path / "a.nrrd", {**LPS, "encoding": "raw"})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        nrrd.read_voxels(path)
    assert str(error.value).startswith(f"{path} {words}")
    assert "\n" not in str(error.value)
