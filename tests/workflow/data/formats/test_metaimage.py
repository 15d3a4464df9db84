"""MetaImage: geometry, channels, voxels beside the header, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import SimpleITK

from custom_networks.workflow.data.formats import metaimage

SHAPE = (4, 5, 6)


def image(shape=SHAPE, vector: bool = False) -> SimpleITK.Image:
    """Return an oblique image whose voxels say where they are."""
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    made = SimpleITK.GetImageFromArray(np.moveaxis(array, 0, -1) if vector else array, isVector=vector)
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    made.SetDirection(turn.ravel().tolist())
    made.SetSpacing([0.7, 0.8, 2.5])
    made.SetOrigin([10, -20, 30])
    return made


@pytest.mark.parametrize("ending", [".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("vector", [False, True])
def test_a_voxel_lies_where_itk_says(tmp_path, ending, compressed, vector):
    made = image((2, *SHAPE) if vector else SHAPE, vector)
    path = tmp_path / f"a b{ending}"
    SimpleITK.WriteImage(made, str(path), compressed)
    grid, voxels = metaimage.read_header(path), metaimage.read_voxels(path)
    assert grid[:2] == (SHAPE[::-1], 2 if vector else 1)
    assert grid.notes == ()
    for index in [(0, 0, 0), (5, 0, 3), (2, 4, 1)]:
        position = np.array(made.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose((grid.affine @ [*index, 1])[:3], position)
        np.testing.assert_array_equal(voxels[:, index[0], index[1], index[2]], made[index])


def rewritten(tmp_path, change, ending=".mha"):
    path = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(image(), str(path))
    path.write_bytes(change(path.read_bytes()))
    return path


def test_the_voxels_begin_where_the_header_says(tmp_path):
    path = rewritten(tmp_path, lambda data: data)
    text, voxels = path.read_bytes().split(b"LOCAL\n")
    begin = len(text) + len(b"HeaderSize = 000\nLOCAL\n") + 7
    header = text.replace(b"ElementType", b"HeaderSize = %03d\nElementType" % begin) + b"LOCAL\n"
    path.write_bytes(header + b"padding" + voxels)
    np.testing.assert_array_equal(metaimage.read_voxels(path)[0].T, SimpleITK.GetArrayFromImage(image()))
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), metaimage.read_voxels(path)[0].T
    )


@pytest.mark.parametrize(
    ("field", "note"),
    [("TransformMatrix", "says no directions"), ("ElementSpacing", "says no voxel size"), ("Offset", "says no origin")],
)
def test_what_a_header_leaves_out_is_said(tmp_path, field, note):
    path = rewritten(tmp_path, lambda data: re.sub(rb"(?m)^%s.*\n" % field.encode(), b"", data))
    (said,) = metaimage.read_header(path).notes
    assert said.startswith(note)


def test_a_checksum_that_is_absent(tmp_path):
    path = tmp_path / "a.mha"
    SimpleITK.WriteImage(image(), str(path), True)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"a.mha is truncated: the checksum of its voxels is absent"):
        metaimage.read_voxels(path)


DAMAGED = {
    "half": (lambda data: data[:-100], "is truncated: its header promises 240 bytes"),
    "sizes": (lambda data: data.replace(b"DimSize = 6 5 4", b"DimSize = 32767 32767 32767"), "is truncated"),
    "no header": (lambda data: b"x = 1\n" * 300, "is no MetaImage file, or has lost its end"),
    "absent": (lambda data: data.replace(b"= LOCAL", b"= b.raw"), "has its voxels in "),
    "list": (lambda data: data.replace(b"= LOCAL", b"= LIST"), "has its voxels in "),
    "spacing": (lambda data: re.sub(rb"(ElementSpacing =) \S+", rb"\1 0", data), "has the spacing [0.0, 0."),
    "no type": (lambda data: data.replace(b"ElementType", b"Elementtyp"), "lacks the fields elementtype"),
    "text": (lambda data: data.replace(b"BinaryData = True", b"BinaryData = False"), "holds MET_SHORT or text"),
    "colours": (lambda data: data.replace(b"MET_SHORT", b"MET_UCHAR_ARRAY"), "holds MET_UCHAR_ARRAY or text"),
    "origin": (lambda data: re.sub(rb"Offset = \S+", rb"Offset = nan", data), "has 3 numbers in its field offset"),
    "2D": (
        lambda data: (
            b"ObjectType = Image\nNDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
            + bytes(4)
        ),
        "has 2 axes of (2, 2) voxels",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_refused(tmp_path, damage, words):
    path = rewritten(tmp_path, damage)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        metaimage.read_voxels(path)
    assert str(error.value).startswith(f"{path} {words}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_the_types_of_itk(tmp_path, dtype):
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / "a.mha"), True)
    read = metaimage.read_voxels(tmp_path / "a.mha")[0]
    np.testing.assert_array_equal(read.T, array)
    assert read.dtype == dtype


def test_old_names_big_endian_and_four_axes(tmp_path):
    """What ITK reads alike, and does not write."""
    array = np.arange(2 * np.prod(SHAPE), dtype=">i2").reshape(2, *SHAPE)
    header = (
        "ObjectType: Image\nNDims: 4\nElementByteOrderMSB = True\nPosition = 1 2 3 0\nElementSize = 0.5 1 2 1\n"
        "Rotation = 0 1 0 0 1 0 0 0 0 0 -1 0 0 0 0 1\nDimSize = 6 5 4 2\nHeaderSize = -1\nElementType = MET_SHORT\n"
        "ElementDataFile = b.raw\n"
    )
    (tmp_path / "a.mhd").write_text(header)
    (tmp_path / "b.raw").write_bytes(b"some header" + array.tobytes())
    made, grid = SimpleITK.ReadImage(str(tmp_path / "a.mhd")), metaimage.read_header(tmp_path / "a.mhd")
    assert grid[:2] == (SHAPE[::-1], 2)
    for index in [(0, 0, 0), (5, 0, 3), (2, 4, 1)]:
        position = np.array(made.TransformIndexToPhysicalPoint((*index, 0)))[:3] * [-1, -1, 1]
        np.testing.assert_allclose((grid.affine @ [*index, 1])[:3], position)
    np.testing.assert_array_equal(metaimage.read_voxels(tmp_path / "a.mhd").transpose(0, 3, 2, 1), array)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(made), array)
