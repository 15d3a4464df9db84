"""A bundle on a labelled data set, and the same figures as those of evaluate.json."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from custom_networks.workflow.data.folds import read_folds
from tests.synthetic import (
    SEGMENTATION,
    change,
    run,
    tiny_knobs,
    tiny_training,
    volume,
    write_dataset,
    write_nifti,
)

BUNDLE = SEGMENTATION[0]


@pytest.fixture
def data(tmp_path) -> Path:
    return write_dataset(tmp_path / "data", cases=2)


def name_labels(folder: Path, labels: dict) -> None:
    index = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**index, "labels": labels}))


def test_the_images_are_segmented_and_compared(data, tmp_path, evaluate):
    found = evaluate("data", bundle=BUNDLE)
    assert set(found.rows) == {(f"case_0{n}", name) for n in (0, 1) for name in ("Anterior", "Posterior")}
    assert sorted(path.name for path in (tmp_path / "result").iterdir()) == [
        "metrics.csv",
        "metrics.json",
        "predictions",
    ]
    mask = tmp_path / "result" / "predictions" / "case_00_seg.nii.gz"
    assert found.summary["files"]["case_00"]["prediction"] == str(mask)
    assert found.summary["surface_tolerance_mm"] == 1.0
    assert "case_00" in found.out and "HD95 (mm)" in found.out
    again = evaluate("data", bundle=BUNDLE, tolerance=3)
    assert "2 up to date" in again.out
    assert again.rows["case_00", "Anterior"]["dice"] == found.rows["case_00", "Anterior"]["dice"]
    assert again.rows["case_00", "Anterior"]["nsd"] >= found.rows["case_00", "Anterior"]["nsd"]
    # its masks against the labels in two folders are the same rows
    names = {"label_names": ["background", "Anterior", "Posterior"], "spacing": [1, 1, 1]}
    (tmp_path / "mine.json").write_text(json.dumps(names))
    assert evaluate("result/predictions", "data", out="two", profile=tmp_path / "mine.json").rows == found.rows


def test_masks_of_predict_are_found_by_their_images(tmp_path, evaluate):
    """In a BIDS folder a mask is called as its image, and the case as its subject."""
    for subject in ("sub-1", "sub-2"):
        image, label = volume(int(subject[-1]))
        write_nifti(image, tmp_path / "data" / subject / "anat" / f"{subject}_T1w.nii.gz")
        write_nifti(label, tmp_path / "data" / "derivatives" / "manual" / subject / "anat" / f"{subject}_dseg.nii.gz")
    found = evaluate("data", bundle=BUNDLE, cases="sub-2")
    assert {case for case, _ in found.rows} == {"sub-2"}
    mask = tmp_path / "result" / "predictions" / "sub-2_seg.nii.gz"
    record = mask.with_name("sub-2_seg.json")
    made = json.loads(record.read_text())
    (tmp_path / "elsewhere").mkdir()
    mask.rename(tmp_path / "elsewhere" / "other_seg.nii.gz")
    (tmp_path / "elsewhere" / "other_seg.json").write_text(json.dumps({**made, "mask": "other_seg.nii.gz"}))
    two = evaluate("elsewhere", "data", out="two", cases="sub-2")
    assert [row["dice"] for row in two.rows.values()] == [row["dice"] for row in found.rows.values()]


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        ({"0": "background", "1": "Anterior", "2": "kidney"}, [1, 2], "the label value 2 is Posterior for"),
        (None, [1, 9], "holds the label value 9, but the classes of"),
    ],
)
def test_other_classes_are_refused_before_anything_is_segmented(data, tmp_path, evaluate, labels, values, message):
    if labels is not None:
        name_labels(data, labels)
    change(data / "labelsTr" / "case_01.nii.gz", lambda label: np.array([0, *values], np.uint8)[label])
    found = evaluate("data", bundle=BUNDLE)
    assert found.code == 1
    assert message in found.err
    assert not (tmp_path / "result").exists()


def test_a_profile_says_which_values_are_the_classes(data, tmp_path, evaluate):
    name_labels(data, {"0": "background", "1": "head", "2": "tail"})
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"label_values": [0, 1, 2]}))
    found = evaluate("data", bundle=BUNDLE, profile=profile, cases="case_00")
    assert found.code == 0
    assert set(found.rows) == {("case_00", "Anterior"), ("case_00", "Posterior")}


def test_a_label_on_another_grid_than_its_image_is_refused(data, tmp_path, evaluate):
    change(data / "labelsTr" / "case_01.nii.gz", lambda label: label[1:])
    assert "case_01.nii.gz has shape (23, 28, 22) but its image" in evaluate("data", bundle=BUNDLE).err
    assert "holds label maps and no images" in evaluate("data/labelsTr", bundle=BUNDLE).err
    assert not (tmp_path / "result").exists()


def test_cases_that_the_weights_know_are_named(data, evaluate, caplog):
    known = read_folds(BUNDLE / "configs" / "folds.json")[0][0][0]
    for folder in ("imagesTr", "labelsTr"):
        (data / folder / "case_00.nii.gz").rename(data / folder / f"{known}.nii.gz")
    (data / "dataset.json").unlink()
    assert evaluate("data", bundle=BUNDLE, cases=known).code == 0
    assert f"1 of the 1 cases, such as {known}, are called as some of" in caplog.text


@pytest.mark.slow
def test_the_figures_are_those_of_evaluate_json(tmp_path, evaluate):
    """A small training, evaluated by the configs, and its masks compared with the labels by the command."""
    data = write_dataset(tmp_path / "data", spacing=(1.0, 1.3, 2.0))
    overrides = tiny_training(BUNDLE, data, tmp_path / "trained", epochs=4)
    run(BUNDLE, "train", overrides)
    evaluated = {**overrides, "output_dir": str(tmp_path / "evaluated"), "report": True}
    run(BUNDLE, ["train", "evaluate"], evaluated)
    knobs = {k: v for k, v in tiny_knobs(BUNDLE).items() if k in ("label_names", "spacing")}
    (tmp_path / "mine.json").write_text(json.dumps(knobs))
    with (tmp_path / "evaluated" / "metrics.csv").open(newline="") as file:
        held_out = ",".join(sorted({row["case"] for row in csv.DictReader(file)}))
    evaluate("evaluated", "data", profile=tmp_path / "mine.json", cases=held_out)
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("evaluated", "result")]
    assert tables[0] == tables[1]
    summaries = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("evaluated", "result")]
    for summary in summaries:
        del summary["files"]
    assert summaries[0] == summaries[1]
    # and so is what the bundle does to the same cases
    profile = tmp_path / "network.json"
    profile.write_text(json.dumps(tiny_knobs(BUNDLE)))
    weights = tmp_path / "trained" / "model.pt"
    found = evaluate("data", out="whole", bundle=BUNDLE, profile=profile, folds=weights, cases=held_out)
    assert found.code == 0, found.err
    assert (tmp_path / "whole" / "metrics.csv").read_text() == tables[0]
