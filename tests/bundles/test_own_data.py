"""A data set of one's own by overrides alone: other label values, two channels of different kinds, nested labels."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

from tests.synthetic import (
    CASES,
    IMAGES,
    SEGMENTATION,
    change,
    config,
    each,
    read_rows,
    run,
    tiny_knobs,
    tiny_training,
    write_dataset,
)

pytestmark = each(SEGMENTATION[:1])
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


NESTED = {
    "label_names": ["background", "whole", "core", "apart"],
    "regions": [[50, 300, 301], [300, 301], [7]],
    "batch_size": 2,
    "learning_rate": 0.03,
    "epochs": 8,
    "val_interval": 8,
    "seed": 1,  # one in which a few steps find the core; of six seeds five do
}
WRITTEN = {"whole": [50, 300], "core": [300], "apart": [7]}


def nest(label):
    """Return a ball of two values in a ball of another, one apart, and a corner of a value that no region holds."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in label.shape), indexing="ij"), -1)
    distance = ((grid - np.argwhere(label == 2).mean(0)) ** 2).sum(-1)
    nested = np.where(label == 2, np.where(distance < 16, np.where(grid[..., 0] % 2, 300, 301), 50), 7 * label)
    nested[-2:, -2:, -2:] = 99
    return nested.astype(np.int16)


@pytest.fixture(scope="session")
def nested(tmp_path_factory):
    folder = write_dataset(tmp_path_factory.mktemp("nested"))
    for path in (folder / "labelsTr").iterdir():
        change(path, nest)
        shown = nib.load(path).get_fdata()
        # the intensity tells the regions
        change(folder / IMAGES / path.name, lambda image, shown=shown: image + 2 * (shown >= 300).astype(image.dtype))
    return folder


def test_one_profile_of_nested_labels(bundle, nested, tmp_path):
    profile, out = tmp_path / "mine.json", tmp_path / "out"
    profile.write_text(json.dumps({**tiny_training(bundle, nested, out), **NESTED}))
    run(bundle, "train", {}, args_file=str(profile))
    for name, more in (("plain", {}), ("low", {"low_memory": True, "largest_component": True})):
        report, masks = ({**more, "output_dir": str(tmp_path / name / what)} for what in ("report", "masks"))
        run(bundle, ["train", "evaluate"], report, args_file=str(profile))
        run(bundle, "inference", {**masks, "dataset_dir": str(nested / IMAGES)}, args_file=str(profile))
        check_masks(nested / "labelsTr", tmp_path / name)


def check_masks(labels, folder):
    """Compare the report with the masks, by the label values of the regions."""
    summary = json.loads((folder / "report" / "metrics.json").read_text())
    assert list(summary["classes"]) == list(WRITTEN)
    assert summary["classes"]["whole"]["dice"]["mean"] > 0.5
    written = {path.name.removesuffix("_seg.nii.gz"): nib.load(path) for path in (folder / "masks").iterdir()}
    assert len(written) == CASES
    assert {mask.get_data_dtype() for mask in written.values()} == {np.dtype(np.int16)}
    assert {0, 50, 300} <= {value for mask in written.values() for value in np.unique(mask.dataobj)} <= {0, 50, 300, 7}
    rows = read_rows(folder / "report" / "metrics.csv")
    assert [row["class"] for row in rows] == list(WRITTEN) * 2
    for row in rows:
        reference = nib.load(labels / f"{row['case']}.nii.gz").get_fdata()
        values = dict(zip(WRITTEN, NESTED["regions"], strict=True))[row["class"]]
        assert float(row["reference_volume"]) == np.isin(reference, values).sum()
        mask = written[row["case"]].get_fdata()
        assert float(row["prediction_volume"]) == np.isin(mask, WRITTEN[row["class"]]).sum()


@pytest.mark.parametrize("name", ["train", "inference"])
def test_the_network_and_its_bill_have_one_output_per_region(bundle, name):
    parser = ConfigParser({**config(bundle, name), "bundle_root": str(bundle)})
    bill = next(f"run#{n}" for n, step in enumerate(parser["run"]) if "report_memory" in str(step))
    for regions, outputs in ((None, 4), (NESTED["regions"], 3)):
        parser.update({"label_names": NESTED["label_names"], "regions": regions})
        parser.parse(reset=True)
        for entry in ("network_def", bill):
            assert parser.get_parsed_content(f"{entry}#out_channels") == outputs


def test_regions_that_cannot_be_used(bundle, nested, tmp_path, refused):
    knobs = {**tiny_training(bundle, nested, tmp_path / "out"), **NESTED}
    for overrides, sentence in (
        ({"regions": [[50, 300], [300, 301], [7]]}, "the regions whole and core share the label value 300, but core"),
        ({"regions": [[50, 300], [300]]}, "regions has 2 entries for the 3 names after background in label_names"),
        ({"label_values": [0, 50, 300, 7]}, "label_values and regions both say what a label value means"),
    ):
        assert sentence in refused(bundle, "train", {**knobs, **overrides})
        images = {"dataset_dir": str(nested / IMAGES), "load_pretrain": False}
        assert sentence in refused(bundle, "inference", {**knobs, **overrides, **images})
    assert not (tmp_path / "out").exists()


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
    patch = next(t for t in config(bundle)["train"]["random_transforms"] if t["_target_"].endswith(".RandPatchd"))
    assert patch["foreground_ratio"] == "@foreground_ratio"
    assert config(bundle)["foreground_ratio"] == 0.5
