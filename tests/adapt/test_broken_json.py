"""Entries of a bundle's or a data set's JSON that are missing or of another kind are named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from custom_networks.__main__ import main
from tests.synthetic import ROOT, config, write_dataset

ATTENTION_UNET = "hippocampus_mr_attention_unet_segmentation"


@pytest.fixture
def data(tmp_path) -> Path:
    return write_dataset(tmp_path / "data")


def without(*names):
    return lambda config: [config.pop(name) for name in names]


BROKEN = {
    "entries": (
        without("foreground_ratio", "amp"),
        r"has no entry amp, foreground_ratio, which adapt starts",
    ),
    "definition": (lambda config: config.update(network_def=3), "train.json has a network_def without a _target_"),
    "class": (
        lambda config: config["network_def"].pop("_target_"),
        "train.json has a network_def without a _target_",
    ),
    "kind": (
        lambda config: config.update(batch_size="two"),
        "train.json: batch_size must be a positive integer",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_config_of_a_bundle_that_lacks_what_adapt_starts_from(data, tmp_path, capsys, case):
    change_config, sentence = BROKEN[case]
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "bundles" / ATTENTION_UNET / "configs", folder / "configs")
    content = config(folder)
    change_config(content)
    (folder / "configs" / "train.json").write_text(json.dumps(content))
    assert main(["adapt", str(data), "--bundle", str(folder), "--out", str(tmp_path / "mine.json")]) == 1
    assert re.search(sentence, capsys.readouterr().err)


@pytest.mark.parametrize("folds", [{}, {"folds": 3}, {"folds": []}, {"folds": ["case_00"]}], ids=str)
def test_folds_of_a_bundle_that_are_none(data, tmp_path, capsys, folds):
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "bundles" / ATTENTION_UNET / "configs", folder / "configs")
    (folder / "configs" / "folds.json").write_text(json.dumps(folds))
    assert main(["adapt", str(data), "--bundle", str(folder), "--out", str(tmp_path / "mine.json")]) == 1
    assert "folds.json has no entry folds, a list with the names of" in capsys.readouterr().err


@pytest.mark.parametrize(("entry", "value"), [("modality", 5), ("channel_names", True)])
def test_channels_of_another_kind_are_refused(data, tmp_path, capsys, entry, value):
    index = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**index, entry: value}))
    assert main(["adapt", str(data), "--bundle", ATTENTION_UNET, "--out", str(tmp_path / "mine.json")]) == 1
    assert f"dataset.json has the modality {value}, which names no channels; write" in capsys.readouterr().err


ODD_LABELS = [
    5,
    ["heart"],
    {"1": 5.5},
    {"0": None},
    {"a": True},
    {"a": [1, "x"]},
    {"a": [[1]]},
    {"a": {"b": 1}},
    {"a": []},
]


@pytest.mark.parametrize("labels", ODD_LABELS, ids=str)
def test_labels_of_another_kind_are_refused(data, tmp_path, capsys, labels):
    index = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**index, "labels": labels}))
    assert main(["adapt", str(data), "--bundle", ATTENTION_UNET, "--out", str(tmp_path / "mine.json")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "the whole traceback is in" not in error
