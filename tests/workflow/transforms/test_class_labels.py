"""Label values of a file become class indices, and class indices label values again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom_networks.workflow import ClassLabelsd, FileLabelsd, label_dtype

NAMES = ["background", "heart", "vessels"]
VALUES = [0, 500, [421, 205]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.int64])
def test_values_become_indices_and_indices_values(dtype):
    affine = torch.diag(torch.tensor([2.0, 1, 1, 1], dtype=torch.float64))
    label = MetaTensor(torch.tensor([[[[0, 500, 205], [421, 0, 500]]]], dtype=dtype), affine=affine)
    classes = ClassLabelsd("label", NAMES, VALUES)({"label": label, "other": 1})
    assert classes["label"].tolist() == [[[[0, 1, 2], [2, 0, 1]]]]
    assert classes["label"].dtype == torch.float32
    assert torch.equal(classes["label"].affine, affine)
    assert classes["other"] == 1
    back = FileLabelsd("label", NAMES, VALUES)(classes)["label"]
    assert back.tolist() == [[[[0, 500, 421], [421, 0, 500]]]]  # the first of several values
    assert torch.equal(back.affine, affine)
    assert label.max() == 500


def test_small_integers_do_not_wrap_around():
    label = torch.tensor([[255, 7]], dtype=torch.uint8)
    assert ClassLabelsd("label", NAMES[:2], [255, 7])({"label": label})["label"].tolist() == [[0, 1]]


def test_without_values_nothing_changes_but_the_type():
    case = {"label": torch.tensor([[0, 9]])}
    assert FileLabelsd("label", NAMES)(case)["label"] is case["label"]
    classes = ClassLabelsd("label", NAMES)(case)["label"]
    assert torch.equal(classes, torch.tensor([[0.0, 9.0]]))


@pytest.mark.parametrize("values", [[0, 614454277, 614454278], [0, 3000000001, 3000000002]])
def test_values_that_float32_does_not_hold_stay_apart(values):
    label = {"label": torch.tensor([[0, *values[1:]]])}
    classes = ClassLabelsd("label", NAMES, values)(label)
    assert classes["label"].tolist() == [[0, 1, 2]]
    assert FileLabelsd("label", NAMES, values)(classes)["label"].tolist() == [values]


def test_a_value_without_a_class():
    with pytest.raises(ValueError, match="a label holds the value 7, which no entry of label_values names"):
        ClassLabelsd("label", NAMES, VALUES)({"label": torch.tensor([[0, 7]])})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1], "label_values has 2 entries for the 3 classes background, heart, vessels"),
        ([0, [], 1], "label_values of heart are"),
        ([0, 1.5, 2], "not iterable|label_values of heart"),
        ([0, [1, 2], [2, 3]], "gives the value 2 to heart and to vessels"),
        ([0, True, 2], "label_values of heart are"),
    ],
)
def test_values_that_do_not_fit(values, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ClassLabelsd("label", NAMES, values)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (None, np.uint8),
        ([0, 255, 1], np.uint8),
        ([0, 256, 1], np.int16),
        ([-1, 1, 2], np.int16),
        ([0, 1, [2, 40000]], np.int32),
    ],
)
def test_the_smallest_type_is_written(values, dtype):
    assert label_dtype(NAMES, values) == dtype


def test_more_than_64_bits():
    assert label_dtype(NAMES, [0, 1, 2**40]) == np.int64
    with pytest.raises(ValueError, match="more than 64 bits hold"):
        label_dtype(NAMES, [0, 1, 2**64])


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int16, torch.int64])
@pytest.mark.parametrize(
    ("arguments", "values"),
    [({}, [0, 1, 2]), ({"label_values": [7, 1, [5, 2]]}, [7, 1, 2]), ({"regions": [[1, 2], [2]]}, [0, 1, 2])],
)
def test_voxels_without_a_label_have_no_class(dtype, arguments, values):
    affine = torch.diag(torch.tensor([2.0, 1, 1, 1], dtype=torch.float64))
    label = MetaTensor(torch.tensor([[[[*values, 200]]]], dtype=dtype), affine=affine)
    classes = ClassLabelsd("label", NAMES, ignore_value=200, **arguments)({"label": label})["label"]
    assert classes.tolist() == [[[[0, 1, 2, -1]]]]
    assert torch.equal(classes.affine, affine)


@pytest.mark.parametrize(
    ("ignore_value", "arguments", "message"),
    [
        (
            1,
            {},
            "ignore_value is 1, which is also the value of heart; give voxels without a label a value",
        ),
        (205, {"label_values": VALUES}, "also the value of vessels"),
        (0, {"regions": [[1, 2], [2]]}, "also the value of background"),
        (2, {"regions": [[1, 2], [2]]}, "also the value of vessels"),
        ([3], {}, r"must be the one value of voxels without a label, got \[3\]; give an integer"),
        (True, {}, "got True; give an integer"),
        (3.0, {}, "got 3.0; give an integer"),
    ],
)
def test_a_value_that_cannot_be_ignored(ignore_value, arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassLabelsd("label", NAMES, ignore_value=ignore_value, **arguments)


def test_another_value_beside_the_ignored_one():
    with pytest.raises(ValueError, match=r"a label holds the value 4\.0, which"):
        ClassLabelsd("label", NAMES, ignore_value=3)({"label": torch.tensor([[3.0, 4.0]])})
