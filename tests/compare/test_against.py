"""Masks that were made elsewhere, beside the networks of a comparison."""

from __future__ import annotations

import json
import shutil

import pytest

from custom_networks.compare.against import find_outside, rows_of_outside, write_splits
from custom_networks.compare.table import lines_of
from custom_networks.workflow.data.folds import read_folds
from tests.compare.test_comparison_plan import study_of
from tests.synthetic import change

CLASSES = ["background", "Small", "Large"]


@pytest.fixture
def study(tmp_path):
    return study_of(tmp_path, folds=[0, 1])


@pytest.fixture
def profile(study, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"label_names": CLASSES, "spacing": [1, 1, 1]}))
    return file


@pytest.fixture
def nnunet(study, tmp_path):
    """Write masks as nnU-Net leaves them: the labels themselves, but for one whose first class is missing."""
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    labels = tmp_path / "data" / "labelsTr"
    write_splits(study)
    for fold, (_, held_back) in enumerate(read_folds(study.folder / "splits_final.json")):
        target = folder / f"fold_{fold}" / "validation"
        target.mkdir(parents=True)
        for name in held_back:
            shutil.copyfile(labels / f"{name}.nii.gz", target / f"{name}.nii.gz")
    change(next((folder / "fold_1" / "validation").iterdir()), lambda voxels: voxels * (voxels != 1))
    return folder


def test_the_splits_are_those_of_the_comparison(study):
    write_splits(study)
    splits = read_folds(study.folder / "splits_final.json")
    assert len(splits) == 2
    held_back = [set(part) for _, part in splits]
    assert not held_back[0] & held_back[1]
    assert all(not set(training) & own for (training, _), own in zip(splits, held_back, strict=True))


def test_masks_of_nnunet_are_measured_as_all_others(study, nnunet, profile):
    outside = find_outside([], nnunet, [0, 1])[0]
    said = []
    rows = rows_of_outside(study, profile, outside, said.append)
    assert not said
    assert outside.name == "nnU-Net"
    cases = {row["case"] for row in rows}
    assert len(rows) == 2 * len(cases)
    wrong = [row for row in rows if float(row["dice"]) < 1]
    assert [(row["fold"], row["class"], float(row["dice"])) for row in wrong] == [(1, "Small", 0.0)]
    # beside a network of two seeds, whose mean it is compared to, with nothing said of its training anew
    ours = [{**row, "network": "ours", "seed": seed, "dice": "0.5"} for seed in (0, 1) for row in rows]
    lines = lines_of({"ours": ours, "nnU-Net": rows}, {}, {name: name for name in cases})
    assert lines[1].difference.mean == pytest.approx(0.5 - 0.5 / len(cases))
    assert lines[1].difference.interval is None
    assert lines[1].difference.seeds == 1


def test_a_summary_that_states_another_dice_is_named(study, nnunet, profile):
    for fold, dice in ((0, 1.0), (1, 0.95)):
        summary = {"foreground_mean": {"Dice": dice}}
        (nnunet / f"fold_{fold}" / "validation" / "summary.json").write_text(json.dumps(summary))
    said = []
    rows_of_outside(study, profile, find_outside([], nnunet, [0, 1])[0], said.append)
    assert len(said) == 1
    assert "fold_1/validation/summary.json states a mean Dice of 0.9500, measured is 0." in said[0]


def test_any_folder_of_masks_takes_part(study, nnunet, profile, tmp_path):
    flat = tmp_path / "theirs"
    flat.mkdir()
    for mask in nnunet.rglob("*.nii.gz"):
        shutil.copyfile(mask, flat / mask.name.replace(".nii.gz", "_seg.nii.gz"))
    outside = find_outside([flat], None, [0, 1])[0]
    assert outside.name == "theirs"
    rows = rows_of_outside(study, profile, outside, print)
    assert {row["fold"] for row in rows} == {0, 1}
    next(flat.iterdir()).unlink()
    with pytest.raises(ValueError, match="prediction"):
        rows_of_outside(study, profile, outside, print)


def test_what_is_no_folder_of_masks_is_refused(nnunet, tmp_path):
    with pytest.raises(FileNotFoundError, match="fold_2/validation, where nnU-Net puts"):
        find_outside([], nnunet, [0, 2])
    with pytest.raises(FileNotFoundError, match="nothing"):
        find_outside([tmp_path / "nothing"], None, [0])
    with pytest.raises(ValueError, match="two folders of masks are called"):
        find_outside([nnunet, nnunet], None, [0])
