"""A data set of one's own by overrides alone: other label values, two channels of different kinds."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from tests.synthetic import SEGMENTATION, change, config, each, run, tiny_knobs, tiny_training, write_dataset

pytestmark = each(SEGMENTATION)
VALUES = np.array([0, 500, 420])
OWN = {
    "in_channels": 2,
    "label_values": [0, 500, [420, 421]],
    "intensity": ["z_score", {"clip": [-3, 3], "mean": 0.5, "std": 2}],
    "foreground_ratio": 0.8,
}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = write_dataset(tmp_path_factory.mktemp("own"), channels=2)
    for path in (folder / "labelsTr").iterdir():
        change(path, lambda label: VALUES[label.astype(int)].astype(np.int16))
    return folder


def test_train_evaluate_and_infer(bundle, data, tmp_path):
    out = tmp_path / "out"
    knobs = {**tiny_training(bundle, data, out, epochs=1), **OWN}
    run(bundle, "train", knobs)
    run(bundle, ["train", "evaluate"], {**knobs, "output_dir": str(tmp_path / "evaluation")})
    summary = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert list(summary["classes"]) == ["Small", "Large"]
    inference = {key: OWN[key] for key in ("in_channels", "label_values", "intensity")}
    places = {"dataset_dir": str(data / "imagesTr"), "output_dir": str(tmp_path / "masks"), "ckpt_dir": str(out)}
    run(bundle, "inference", {**tiny_knobs(bundle), **inference, **places})
    masks = [nib.load(path) for path in sorted((tmp_path / "masks").iterdir())]
    assert len(masks) == 7
    assert {mask.get_data_dtype() for mask in masks} == {np.dtype(np.int16)}
    assert set(np.unique([np.unique(mask.dataobj)[-1] for mask in masks])) <= {0, 420, 500}


def test_a_value_that_is_not_named(bundle, data, tmp_path, refused):
    knobs = {**tiny_training(bundle, data, tmp_path / "out", epochs=1), **OWN, "label_values": [0, 500, 421]}
    sentence = refused(bundle, "train", knobs)
    assert "holds the label value 420, which no entry of label_values names ([0, 500, 421]" in sentence
    assert "labelsTr" in sentence
    assert not (tmp_path / "out").exists()


def test_the_share_of_foreground(bundle):
    crop = next(t for t in config(bundle)["train"]["random_transforms"] if t["_target_"] == "RandCropByPosNegLabeld")
    assert (crop["pos"], crop["neg"]) == ("@foreground_ratio", "$1 - @foreground_ratio")
    assert config(bundle)["foreground_ratio"] == 0.5
