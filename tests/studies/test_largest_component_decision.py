"""The choice of the largest component: against figures counted by hand, and against the postprocessing itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from custom_networks.studies.largest_component import Classes, decide, dice
from custom_networks.workflow.transforms.region_transforms import LargestRegionsd, RegionMasksd
from tests.synthetic import write_nifti

NAMES = ["background", "heart", "aorta"]


def case(folder, prediction, label):
    """Write a mask and a label along one axis."""
    return [
        write_nifti(np.array([[row]], np.uint8), folder / f"{name}.nii.gz")
        for name, row in (("m", prediction), ("l", label))
    ]


def test_each_class_is_chosen_for_itself(tmp_path):
    pairs = [
        # the heart has a stray voxel; the aorta is in two pieces, truly
        case(tmp_path / "a", [1, 1, 1, 0, 1, 0, 2, 2, 0, 2], [1, 1, 1, 0, 0, 0, 2, 2, 0, 2]),
        case(tmp_path / "b", [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]),  # no aorta: no value
    ]
    found = decide(pairs, Classes(NAMES))
    assert found["chosen"] == ["heart"]
    assert found["classes"]["heart"] == pytest.approx({"without": (6 / 7 + 1) / 2, "with": 1.0})
    assert found["classes"]["aorta"] == pytest.approx({"without": 1.0, "with": 4 / 5})
    assert "too good" in found["note"]


def test_nothing_is_chosen_where_it_changes_nothing(tmp_path):
    assert decide([case(tmp_path, [1, 1, 0, 2], [1, 0, 0, 2])], Classes(NAMES))["chosen"] is False


def test_values_of_labels_are_those_of_the_profile(tmp_path):
    pairs = [case(tmp_path, [50, 50, 0, 50, 7], [50, 60, 0, 0, 7])]
    found = decide(pairs, Classes(NAMES, label_values=[0, [50, 60], 7]))
    assert found["classes"]["heart"] == pytest.approx({"without": 4 / 5, "with": 1.0})
    assert found["chosen"] == ["heart"]


def test_regions_are_chosen_together_as_the_postprocessing_takes_them(tmp_path):
    names, regions = ["background", "tumour", "core"], [[1, 2], [2]]
    prediction, label = [1, 2, 1, 0, 2, 2, 0, 2], [1, 2, 1, 0, 0, 0, 0, 0]
    found = decide([case(tmp_path, prediction, label)], Classes(names, regions=regions))
    assert found["classes"]["tumour"] == pytest.approx({"without": 6 / 9, "with": 1.0})
    assert found["classes"]["core"] == pytest.approx({"without": 2 / 5, "with": 1.0})
    assert found["chosen"] is True
    classes = Classes(names, regions=regions)
    kept = LargestRegionsd("pred", names, regions)({"pred": torch.tensor([[[prediction]]])})
    masks = RegionMasksd("pred", names, regions)(kept)["pred"]
    for number, mask in enumerate(classes.largest(np.array([[prediction]])).values(), start=1):
        np.testing.assert_array_equal(mask, masks[number].numpy() > 0)
    assert decide([case(tmp_path, label, label)], classes)["chosen"] is False


def test_the_largest_component_is_that_of_an_independent_search():
    voxels = (np.random.default_rng(0).random((12, 13, 11)) > 0.8).astype(np.uint8)
    numbers, _ = ndimage.label(voxels, np.ones((3, 3, 3)))
    sizes = np.bincount(numbers.ravel())[1:]
    largest = Classes(["background", "heart"]).largest(voxels)["heart"]
    assert largest.sum() == sizes.max()
    assert len(np.unique(numbers[largest])) == 1


def test_dice():
    full, half, none = np.ones(4, bool), np.array([True, True, False, False]), np.zeros(4, bool)
    assert dice(half, full) == pytest.approx(2 / 3)
    assert (dice(full, full), dice(none, full), dice(none, none)) == (1.0, 0.0, None)
