"""Nested labels: label values become classes, classes masks of regions, predictions of regions label values again."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from monai.data import MetaTensor

from custom_networks.workflow import (
    ClassLabelsd,
    FileLabelsd,
    LargestRegionsd,
    RegionClassesd,
    RegionMasksd,
    label_dtype,
)
from custom_networks.workflow.transforms.regions import region_class_values, region_classes, region_values

NAMES = ["background", "whole", "core", "enhancing"]
BRATS = [[1, 2, 3, 4], [1, 3, 4], [4]]
# two in one, of which the second has one in it, and one apart
APART = [[7, 3, 5, 2], 3, [5, 2], [2], [300]]
APART_NAMES = ["background", "organ", "vessel", "tumour", "necrosis", "implant"]
CASES = [(NAMES, BRATS), (APART_NAMES, APART)]


def label_of(regions, dtype=torch.float32) -> MetaTensor:
    """Return a label with every value of the regions, and one that none of them holds."""
    values = sorted({0, 9, *(value for entry in regions for value in ([entry] if isinstance(entry, int) else entry))})
    affine = torch.diag(torch.tensor([2.0, 1, 3, 1], dtype=torch.float64))
    return MetaTensor(torch.tensor(values, dtype=dtype)[torch.randint(len(values), (1, 6, 5, 4))], affine=affine)


def masks_of(label, regions) -> torch.Tensor:
    """Return whether the value of each voxel is in each region, voxel by voxel."""
    entries = [[entry] if isinstance(entry, int) else entry for entry in regions]
    values = label.flatten().tolist()
    return torch.tensor([[float(value in entry) for value in values] for entry in entries]).view(-1, *label.shape[1:])


@pytest.mark.parametrize(("names", "regions"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_the_masks_of_a_label_hold_the_values_of_their_regions(names, regions, dtype):
    label = label_of(regions, dtype)
    classes = ClassLabelsd("label", names, regions=regions)({"label": label})
    masks = RegionMasksd("label", names, regions)(classes)["label"]
    want = masks_of(label, regions)
    assert torch.equal(masks[1:].as_tensor(), want)
    assert torch.equal(masks[0].as_tensor(), 1 - want.amax(0))
    assert torch.equal(masks.affine, label.affine)


@pytest.mark.parametrize(("names", "regions"), CASES)
def test_perfect_probabilities_give_the_label_back_as_far_as_regions_tell(names, regions):
    label = label_of(regions)
    probabilities = MetaTensor(0.1 + 0.8 * masks_of(label, regions), affine=label.affine)
    case = RegionClassesd("pred", names, regions)({"pred": probabilities})
    written = FileLabelsd("pred", names, regions=regions)(case)["pred"]
    assert written.shape == label.shape
    assert torch.equal(written.affine, label.affine)
    assert torch.equal(masks_of(written, regions), masks_of(label, regions))
    # what tells no two regions apart is written as the first value of its class, and foreign values as background
    same = {9: 0, **{value: entry[0] for entry in region_class_values(names, regions) for value in entry}}
    assert written.flatten().tolist() == [same[value] for value in label.flatten().tolist()]


def test_every_combination_of_outputs_is_painted_from_the_first_region_to_the_last():
    outputs = torch.tensor(list(itertools.product([0.2, 0.7], repeat=3))).T
    case = RegionClassesd("pred", NAMES, BRATS)({"pred": outputs})
    assert case["pred"].tolist() == [[0, 3, 2, 3, 1, 3, 2, 3]]
    assert FileLabelsd("pred", NAMES, regions=BRATS)(case)["pred"].tolist() == [[0, 4, 1, 4, 2, 4, 1, 4]]


def test_a_probability_of_one_half_is_outside():
    assert RegionClassesd("pred", NAMES[:2], [[1]])({"pred": torch.tensor([[0.5, 0.501]])})["pred"].tolist() == [[0, 1]]


def test_one_region_and_one_value_without_a_list():
    assert region_values(NAMES[:2], [5]) == [[5]]
    assert region_class_values(NAMES, BRATS) == [[0], [2], [1, 3], [4]]
    assert region_classes(APART_NAMES, APART) == [[1, 2, 3, 4], [2], [3, 4], [4], [5]]


def test_the_largest_part_of_every_region_is_kept():
    pred = torch.tensor([[0, 2, 3, 0, 1, 3, 2, 1, 2, 3, 3, 1, 0, 1]])
    kept = LargestRegionsd("pred", NAMES, BRATS)({"pred": pred})["pred"]
    # first the small tumours go, then the smaller core becomes tumour, with the enhancement in it
    assert kept.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 1, 0, 0]]
    assert pred[0, 1] == 2
    siblings = torch.tensor([[2, 1, 2, 2, 3, 4, 3, 1, 3, 5, 0, 5, 5]])
    kept = LargestRegionsd("pred", APART_NAMES, APART)({"pred": siblings})["pred"]
    assert kept.tolist() == [[1, 1, 2, 2, 3, 4, 3, 1, 1, 0, 0, 5, 5]]


@pytest.mark.parametrize("transform", [RegionClassesd, RegionMasksd, LargestRegionsd])
def test_without_regions_nothing_is_touched(transform):
    case = {"pred": torch.tensor([[0, 9]])}
    assert transform("pred", NAMES)(case)["pred"] is case["pred"]


def test_a_network_with_another_number_of_outputs():
    with pytest.raises(ValueError, match="the network has 4 outputs for 3 regions; set its out_channels"):
        RegionClassesd("pred", NAMES, BRATS)({"pred": torch.zeros(4, 2, 2, 2)})


WRONG = {
    "number": (BRATS[:2], "regions has 2 entries for the 3 names after background in label_names (whole, core, enhanc"),
    "none": ([], "regions has 0 entries for the 3 names"),
    "empty": ([[1, 2], [], [1]], "the region core has the label values []; give one integer or more"),
    "fraction": ([[1, 2], [1.5], [1]], "the region core has the label values [1.5]; give one integer or more"),
    "no integer": ([[1, 2], 1.5, [1]], "the region core has the label values [1.5]; give one integer or more"),
    "truth": ([[1, 2], [True], [1]], "the region core has the label values [True]; give one integer or more"),
    "text": ([[1, 2], "1", [1]], "the region core has the label values ['1']; give one integer or more"),
    "background": ([[0, 1, 2], [1], [3]], "the region whole has the label value 0, which is the background"),
    "order": ([[1, 2], [4], [1, 2, 3]], "whole and enhancing share the label value 1, but enhancing does not lie insi"),
    "overlap": ([[1, 2, 4], [2, 3], [4]], "the regions whole and core share the label value 2, but core does not lie"),
    "twice": ([[1, 2], [2, 1], [4]], "every label value of the region whole is also of a later region"),
    "nothing left": ([[1, 2], [1], [2]], "every label value of the region whole is also of a later region"),
}


@pytest.mark.parametrize(("regions", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("transform", [ClassLabelsd, FileLabelsd, RegionClassesd, RegionMasksd, LargestRegionsd])
def test_regions_that_cannot_be_used(transform, regions, message):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        transform("label", NAMES, regions=regions)
    assert re.search(re.escape(message), str(error.value)), error.value


def test_label_values_beside_regions():
    with pytest.raises(ValueError, match="label_values and regions both say what a label value means; set one of them"):
        ClassLabelsd("label", NAMES, [0, 1, 2, 4], BRATS)


@pytest.mark.parametrize(("values", "dtype"), [(BRATS, "uint8"), ([[1, 2, 300], [1, 2], [1]], "int16")])
def test_the_smallest_type_that_holds_the_values(values, dtype):
    assert label_dtype(NAMES, regions=values) == dtype
