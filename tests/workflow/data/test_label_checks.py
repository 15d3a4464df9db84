"""What is wrong with a label, question by question, from its grid and from its values."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow.data.formats.grid import Grid
from custom_networks.workflow.data.label_checks import (
    grid_of,
    grid_problems,
    is_empty,
    negative_problems,
    value_problems,
)
from custom_networks.workflow.data.volumes import AFFINE_TOLERANCE, read_grid, read_volume
from tests.synthetic import write_nifti

NAMES = ["background", "organ"]
IMAGE = Grid((4, 5, 6), 1, np.eye(4))


def test_a_header_gives_the_grid_of_the_voxels(tmp_path):
    path = write_nifti(np.zeros((4, 5, 6, 2), np.float32), tmp_path / "a.nii.gz", np.diag([-1.0, 2, 3, 1]))
    header, voxels = read_grid(path), grid_of(read_volume(path))
    assert header[:2] == voxels[:2] == ((4, 5, 6), 2)
    np.testing.assert_allclose(header.affine, voxels.affine)


def moved(distance: float) -> Grid:
    return IMAGE._replace(affine=nib.affines.from_matvec(np.eye(3), [0, 0, distance]))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (IMAGE, []),
        (moved(0.9 * AFFINE_TOLERANCE), []),
        (moved(-1.1 * AFFINE_TOLERANCE), ["another affine than its image ct.nii, by up to 0.011 mm"]),
        (moved(math.nan), ["by up to nan mm"]),
        (IMAGE._replace(affine=np.diag([1.009, 1, 1, 1])), ["by up to 0.027 mm"]),
        (IMAGE._replace(affine=np.eye(3)), ["by up to inf mm"]),
        (IMAGE._replace(channels=2), ["has 2 channels where one of class indices is expected"]),
        (IMAGE._replace(shape=(4, 5, 7)), ["has shape (4, 5, 7) but its image ct.nii (4, 5, 6); resample"]),
        (Grid((4, 5), 3, -np.eye(4)), ["has 3 channels", "has shape (4, 5)", "by up to 10 mm"]),
    ],
)
def test_a_grid_that_is_not_that_of_the_image(label, words):
    problems = grid_problems(label, IMAGE, "ct.nii")
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "holds the label value 7 but there are 2 classes (0 to 1: background, organ)"),
        ({"label_values": [0, [1, 8]]}, "holds the label value 7, which no entry of label_values names ([0, [1, 8]]"),
        ({"label_values": [0, [1, 7]]}, None),
        ({"regions": [[1, 8]]}, None),
    ],
)
def test_values_of_no_class(given, words):
    problems = value_problems([0, 1, 7], NAMES, **given)
    assert len(problems) == (words is not None)
    assert all(words in problem for problem in problems)


def test_a_negative_value_needs_a_name():
    assert negative_problems([0, 3, -2], [-2]) == []
    assert negative_problems([0, -1, -2], [-1]) == [
        "holds the label value -2, below 0; correct the label, or name it in dataset.json"
    ]


@pytest.mark.parametrize(
    ("values", "classes", "empty"),
    [([0], None, True), ([0, -3], None, False), ([9], [[9], [0]], True), ([0, 9], [[9], [0]], False), ([], None, True)],
)
def test_an_empty_label_holds_no_class_but_the_background(values, classes, empty):
    assert is_empty(values, classes) is empty
