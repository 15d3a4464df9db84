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


DAMAGED = {
    "half": (lambda data: data[:-100], "is truncated: its header promises 240 bytes"),
    "sizes": (lambda data: data.replace(b"DimSize = 6 5 4", b"DimSize = 32767 32767 32767"), "is truncated"),
    "no header": (lambda data: b"x = 1\n" * 300, "is no MetaImage file"),
    "absent": (lambda data: data.replace(b"= LOCAL", b"= b.raw"), "has its voxels in "),
    "list": (lambda data: data.replace(b"= LOCAL", b"= LIST"), "has its voxels in "),
    "spacing": (lambda data: re.sub(rb"(ElementSpacing =) \S+", rb"\1 0", data), "has the ElementSpacing 0 0."),
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


def test_without_simpleitk(tmp_path, monkeypatch):
    path = rewritten(tmp_path, lambda data: data)
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(ValueError, match=r"a.mha needs SimpleITK to be read: pip install SimpleITK"):
        metaimage.read_header(path)
