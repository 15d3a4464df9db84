"""The folds of a profile: how many there are, what each holds back, and which cases are measured by none or twice."""

from __future__ import annotations

import json

import pytest

from custom_networks.bundle_folder import read_config
from custom_networks.studies.fold_plan import FoldPlan, plan_folds
from tests.synthetic import SEGMENTATION, write_dataset

BUNDLE = SEGMENTATION[0]
NAMES = [f"case_{number:02d}" for number in range(7)]


@pytest.fixture
def plan(tmp_path):
    """Return a function that plans the folds of seven cases."""
    data = write_dataset(tmp_path / "data")

    def call(folds=None, default=None, cases=None, **knobs):
        content = {"dataset_dir": str(data), **knobs}
        if folds is not None:
            (tmp_path / "folds.json").write_text(json.dumps(folds))
            content["folds_file"] = str(tmp_path / "folds.json")
        if default is not None:
            (tmp_path / "default.json").write_text(json.dumps(default))
        (tmp_path / "mine.json").write_text(json.dumps(content))
        return plan_folds(read_config(BUNDLE, "train", [tmp_path / "mine.json"]), tmp_path / "default.json")

    call.data = data
    return call


def test_without_a_file_there_are_five_by_rank(plan):
    made = plan()
    assert made.held_back == [NAMES[fold::5] for fold in range(5)]
    assert made.trained_on == [5, 5, 6, 6, 6]
    assert made.choose(None) == [0, 1, 2, 3, 4]
    assert (made.never(), made.several_times()) == ([], [])
    assert made.labels["case_03"] == plan.data / "labelsTr" / "case_03.nii.gz"


def test_a_file_of_folds_says_how_many_there_are(plan, caplog):
    made = plan({"folds": [NAMES[:2], NAMES[2:4], ["gone"], NAMES[4:6]]})
    assert made.held_back == [NAMES[:2], NAMES[2:4], [], NAMES[4:6]]
    assert made.usable() == made.choose(None) == [0, 1, 3]
    assert made.never() == ["case_06"]
    assert caplog.records == []  # which the study itself says, once


def test_a_case_may_be_held_back_several_times(plan):
    splits = [{"train": NAMES[3:], "val": NAMES[:3]}, {"train": NAMES[:2], "val": NAMES[2:]}]
    assert plan(splits).several_times() == ["case_02"]
    (plan.data / "splits_final.json").write_text(json.dumps(splits[:1]))
    assert len(plan().held_back) == 1


def test_the_folds_of_the_bundle_hold_for_its_own_cases(plan):
    assert len(plan(default={"folds": [NAMES[:4], NAMES[4:]]}).held_back) == 2
    assert len(plan(default={"folds": [["a"], ["b"]]}).held_back) == 5


def test_a_data_set_that_says_what_validates_has_no_folds(plan):
    index = json.loads((plan.data / "dataset.json").read_text())
    index["validation"] = [index["training"].pop()]
    (plan.data / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"dataset\.json lists what validates, which is one split and no folds; set"):
        plan()
    assert len(plan({"folds": [NAMES[:4], NAMES[4:]]}).held_back) == 2


@pytest.mark.parametrize("given", ["2", "0,x", "0,,1", "-1", "0.5", ""])
def test_another_fold_is_refused(given):
    made = FoldPlan({"a": None, "b": None, "c": None}, [["a"], ["b", "c"], []], [2, 1, 3])
    assert made.choose("1, 0,1") == [0, 1]
    with pytest.raises(ValueError, match=r"--folds names '.*', but the folds of these 3 cases are 0,1"):
        made.choose(given)


def test_one_case_is_too_few():
    with pytest.raises(ValueError, match="1 cases leave no fold with something to train on; add cases"):
        FoldPlan({"a": None}, [["a"], []], [0, 1]).choose(None)
