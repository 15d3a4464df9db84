"""A pose moves image and label alike, to where its name says in mm."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tools.study.poses import POSES

SHAPE = (40, 50, 36)
AFFINE = np.array([[1.5, 0, 0, -20.0], [0, 1, 0, 5], [0, 0, 1.25, 11], [0, 0, 0, 1]])
AT = np.array([14, 36, 22])


def to_mm(affine, points):
    return np.asarray(points) @ affine[:3, :3].T + affine[:3, 3]


CENTRE = to_mm(AFFINE, (np.array(SHAPE) - 1) / 2)
EXPECTED = {
    "as it is": lambda x: x,
    "nodding by 15°": lambda x: turned(x, "x"),
    "leaning by 15°": lambda x: turned(x, "y"),
    "looking aside by 15°": lambda x: turned(x, "z"),
    "moved by 30 mm along each axis": lambda x: x + 30,
    "stored as LPS": lambda x: x,
    "stored as ASR": lambda x: x,
    "three slices averaged": lambda x: x,
}


def turned(x, axis):
    return Rotation.from_euler(axis, 15, degrees=True).apply(x - CENTRE) + CENTRE


def blob():
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    distance = np.linalg.norm((to_mm(AFFINE, grid) - to_mm(AFFINE, AT)) / (8, 5, 6), axis=-1)
    return np.float32(np.clip(2 - distance, 0, 2)), np.float32(distance < 1)


def centroid(values, affine):
    points = np.argwhere(values > 0)
    return np.average(to_mm(affine, points), axis=0, weights=values[values > 0])


@pytest.mark.parametrize("name", POSES)
def test_image_and_label_go_where_the_name_says(name):
    image, indicator = blob()
    new_image, affine = POSES[name](image, AFFINE, False)
    new_indicator, same = POSES[name](indicator, AFFINE, True)
    assert np.array_equal(affine, same) and new_image.shape == new_indicator.shape
    wanted = EXPECTED[name](to_mm(AFFINE, AT))
    assert np.allclose(centroid(new_image, affine), wanted, atol=0.1)
    assert np.allclose(centroid(new_indicator, affine), wanted, atol=0.3)
    assert set(np.unique(new_indicator)) == {0, 1} and new_image.min() >= 0 and new_image.max() <= 2
    volumes = [v.sum() * abs(np.linalg.det(a[:3, :3])) for v, a in ((indicator, AFFINE), (new_indicator, affine))]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.04)


@pytest.mark.parametrize("codes", ["LPS", "ASR"])
def test_a_stored_order_is_that_of_the_file(codes):
    _, affine = POSES[f"stored as {codes}"](blob()[0], AFFINE, False)
    assert "".join(nib.aff2axcodes(affine)) == codes


def test_slices_are_thicker_and_the_grid_of_a_turned_head_is_straight():
    thick, affine = POSES["three slices averaged"](blob()[0], AFFINE, False)
    assert thick.shape == (40, 50, 12) and np.allclose(np.diag(affine)[:3], [1.5, 1, 3.75])
    turned_image, affine = POSES["nodding by 15°"](blob()[0], AFFINE, False)
    assert np.array_equal(affine[:3, :3], AFFINE[:3, :3]) and turned_image.shape[2] > SHAPE[2]
