"""nnU-Net's label "ignore": from ``dataset.json`` to the profile, and through ``check``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from custom_networks.__main__ import main
from custom_networks.adapt.commands import adapt
from custom_networks.adapt.labels import ignored_label
from tests.synthetic import change, write_dataset

BUNDLE = "hippocampus_mr_attention_unet_segmentation"
CLASSES = {"background": 0, "small": 1, "large": 2}
REGIONS = {"background": 0, "whole": [1, 2], "inner": [2]}


@pytest.fixture
def data(tmp_path) -> Path:
    """Cases a half of which has no label: the value 5."""
    folder = write_dataset(tmp_path / "data", cases=4)
    for path in (folder / "labelsTr").iterdir():
        change(path, lambda label: np.where(np.arange(label.shape[2]) < 11, label, 5).astype(np.uint8))
    return folder


def write_index(folder: Path, labels: object, **entries: object) -> None:
    index = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**index, "labels": labels, **entries}))


@pytest.mark.parametrize(
    "labels",
    [
        {**CLASSES, "ignore": 5},
        {"0": "background", "1": "small", "2": "large", "5": "ignore"},
        {**REGIONS, "ignore": 5},
    ],
    ids=["nnU-Net", "Decathlon", "regions"],
)
def test_the_profile_says_it_and_check_agrees(data, tmp_path, capsys, labels):
    write_index(data, labels)
    out = tmp_path / "mine.json"
    profile = adapt(str(data), bundle=BUNDLE, out=str(out))
    assert profile["ignore_value"] == 5
    assert len(profile["label_names"]) == 3
    assert "ignore" not in profile["label_names"]
    assert "label_values" not in profile
    assert profile.get("regions") == ([[1, 2], [2]] if "whole" in labels else None)
    said = capsys.readouterr().out
    assert re.search(r"^ignore_value +5  \(50\.00% of the voxels, left out of loss and metrics\)$", said, re.MULTILINE)
    assert main(["check", str(data), "--profile", str(out)]) == 0
    out.write_text(json.dumps({key: value for key, value in profile.items() if key != "ignore_value"}))
    assert main(["check", str(data), "--profile", str(out)]) == ("whole" not in labels)


def test_a_label_of_ignored_voxels_only_is_empty(data, tmp_path, capsys):
    write_index(data, {**CLASSES, "ignore": 5})
    adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    change(data / "labelsTr" / "case_01.nii.gz", lambda label: np.full_like(label, 5))
    capsys.readouterr()
    assert main(["check", str(data), "--profile", str(tmp_path / "mine.json")]) == 1
    assert "case_01.nii.gz  is all background" in capsys.readouterr().out


def test_the_share_of_foreground_is_that_of_the_labelled_voxels(data, tmp_path, capsys):
    write_index(data, {**CLASSES, "ignore": 5})
    for path in (data / "labelsTr").iterdir():
        change(path, lambda label: np.where(label == 5, 5, np.arange(label.shape[2]) % 2).astype(np.uint8))
    adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    assert "45.45% of the voxels are foreground" in capsys.readouterr().out


def test_intensities_of_ignored_voxels_do_not_count(data, tmp_path):
    write_index(data, {**CLASSES, "ignore": 5}, modality={"0": "CT"})
    for path in (data / "imagesTr").iterdir():
        change(path, lambda image: np.where(np.arange(image.shape[2]) < 11, image, 5000).astype(np.float32))
    (scheme,) = adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))["intensity"]
    assert 0 < scheme["mean"] < scheme["clip"][1] < 10


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({**CLASSES, "ignore": 2}, "names the value 2 'ignore': ignore_value is 2, which is also the value of large"),
        ({**REGIONS, "ignore": 1}, "names the value 1 'ignore': ignore_value is 1, which is also the value of whole"),
        ({**REGIONS, "ignore": [5]}, "gives 'ignore' the value [5]; give voxels without a label one integer"),
        ({**CLASSES, "ignore": "5"}, "gives the class 'ignore' the value '5'; give it one integer"),
    ],
)
def test_refused(data, tmp_path, capsys, labels, sentence):
    write_index(data, labels)
    assert main(["adapt", str(data), "--bundle", BUNDLE, "--out", str(tmp_path / "mine.json")]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "mine.json").exists()


@pytest.mark.parametrize("labels", [None, {}, [1], {"background": 0}, {"x": "ignore"}])
def test_no_such_label(labels):
    assert ignored_label({"labels": labels}) is None
