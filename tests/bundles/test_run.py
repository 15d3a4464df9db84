"""Training, evaluation and inference of every bundle on a tiny data set, with the shipped configs."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from custom_networks.workflow.evaluation import METRICS
from tests.synthetic import (
    EPOCHS,
    LABEL_NAMES,
    VALIDATION,
    assert_equal_weights,
    config,
    read_rows,
    run,
    tiny_knobs,
    tiny_training,
    weights,
    write_dataset,
)


def infer(bundle, source, output, ckpt_dir, **overrides):
    knobs = {"dataset_dir": str(source), "output_dir": str(output), "ckpt_dir": str(ckpt_dir)}
    run(bundle, "inference", {**tiny_knobs(bundle), **knobs, **overrides})
    return sorted(output.glob("*"))


def test_training_writes_weights_state_and_curve(trained):
    state = torch.load(trained / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) and value.dtype == torch.float32 for value in state.values())
    checkpoint = torch.load(trained / "last_checkpoint.pt", weights_only=True)
    assert set(checkpoint) == {"model", "optimizer", "lr_scheduler", "trainer", "best_checkpoint"}
    assert checkpoint["model"].keys() == state.keys()
    rows = read_rows(trained / "training_curve.csv")
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, EPOCHS + 1)]
    assert [bool(row["validation_metric"]) for row in rows] == [epoch % 4 == 0 for epoch in range(1, EPOCHS + 1)]
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    assert float(rows[-1]["learning_rate"]) == 0
    assert list(trained.glob("events.out.tfevents.*"))
    assert not list(trained.glob("*.partial"))


def test_the_best_weights_are_kept(trained):
    rows = read_rows(trained / "training_curve.csv")
    validated = {int(row["epoch"]): float(row["validation_metric"]) for row in rows if row["validation_metric"]}
    best = torch.load(trained / "last_checkpoint.pt", weights_only=True)["best_checkpoint"]
    assert best["best_metric"] == pytest.approx(max(validated.values()), abs=1e-6)
    assert validated[best["best_epoch"]] == max(validated.values())


def test_evaluation_writes_a_row_per_case_and_class(bundle, dataset, trained, tmp_path):
    overrides = tiny_training(bundle, dataset, tmp_path, ckpt_dir=str(trained))
    run(bundle, ["train", "evaluate"], overrides)
    rows = read_rows(tmp_path / "metrics.csv")
    assert [(row["case"], row["class"]) for row in rows] == [(c, n) for c in VALIDATION for n in LABEL_NAMES[1:]]
    assert set(METRICS) < set(rows[0])
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["cases"] == len(VALIDATION)
    assert list(summary["classes"]) == LABEL_NAMES[1:]
    dice = [float(row["dice"]) for row in rows]
    assert summary["mean"]["dice"] == pytest.approx(np.mean(dice), abs=1e-5)
    assert summary["mean"]["dice"] > 0.5
    best = torch.load(trained / "last_checkpoint.pt", weights_only=True)["best_checkpoint"]["best_metric"]
    assert summary["mean"]["dice"] == pytest.approx(best, abs=1e-4)
    reference = nib.load(dataset / "labelsTr" / f"{VALIDATION[0]}.nii.gz").get_fdata()
    assert float(rows[0]["reference_volume"]) == (reference == 1).sum()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.csv", "metrics.json"]


def test_inference_writes_what_evaluation_measured(bundle, dataset, trained, tmp_path):
    overrides = tiny_training(bundle, dataset, tmp_path / "eval", ckpt_dir=str(trained))
    run(bundle, ["train", "evaluate"], overrides)
    rows = read_rows(tmp_path / "eval" / "metrics.csv")
    files = infer(bundle, dataset / "imagesTr", tmp_path / "seg", trained)
    assert [path.name for path in files] == [f"case_{number:02d}_seg.nii.gz" for number in range(7)]
    for row in rows:
        image = nib.load(dataset / "imagesTr" / f"{row['case']}.nii.gz")
        mask = nib.load(tmp_path / "seg" / f"{row['case']}_seg.nii.gz")
        assert mask.get_data_dtype() == np.uint8
        assert mask.shape == image.shape
        np.testing.assert_array_equal(mask.affine, image.affine)
        volume = (mask.get_fdata() == LABEL_NAMES.index(row["class"])).sum()
        assert float(row["prediction_volume"]) == volume


def test_deep_supervision_trains_and_its_weights_serve_inference(bundle, dataset, tmp_path):
    if "deep_supervision" not in config(bundle)["network_def"]:
        pytest.skip("this network has no deep supervision")
    on = {"network_def#deep_supervision": True}
    run(bundle, "train", tiny_training(bundle, dataset, tmp_path, **on))
    assert any(key.startswith("auxiliary_heads.") for key in weights(tmp_path / "model.pt"))
    files = infer(bundle, dataset / "imagesTr" / "case_00.nii.gz", tmp_path / "seg", tmp_path)
    assert [path.name for path in files] == ["case_00_seg.nii.gz"]
    run(bundle, ["train", "evaluate"], tiny_training(bundle, dataset, tmp_path / "eval", ckpt_dir=str(tmp_path)))
    assert (tmp_path / "eval" / "metrics.csv").is_file()


def test_fold_knob_chooses_the_validation_cases(bundle, dataset, trained, tmp_path):
    run(bundle, ["train", "evaluate"], tiny_training(bundle, dataset, tmp_path, ckpt_dir=str(trained), fold=1))
    rows = read_rows(tmp_path / "metrics.csv")
    assert {row["case"] for row in rows} == {"case_01", "case_06"}


def test_one_profile_moves_the_bundle_to_other_data(bundle, tmp_path):
    dataset = write_dataset(tmp_path / "data", cases=6, channels=2, spacing=(1.0, 1.0, 1.6))
    mine = {"in_channels": 2, "label_names": ["background", "A", "B"], "spacing": [1.2, 1.2, 1.6]}
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps(tiny_training(bundle, dataset, tmp_path / "out", **mine)))
    run(bundle, "train", {}, args_file=str(profile))
    run(bundle, ["train", "evaluate"], {}, args_file=str(profile))
    assert list(json.loads((tmp_path / "out" / "metrics.json").read_text())["classes"]) == ["A", "B"]
    images = {"dataset_dir": str(dataset / "imagesTr" / "case_03.nii.gz")}
    run(bundle, "inference", images, args_file=str(profile))
    mask = nib.load(tmp_path / "out" / "case_03_seg.nii.gz")
    image = nib.load(images["dataset_dir"])
    assert mask.shape == image.shape[:3]
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-6)


def test_finetuning_keeps_what_fits(bundle, dataset, trained, tmp_path):
    overrides = tiny_training(bundle, dataset, tmp_path, finetune_ckpt=str(trained / "model.pt"), learning_rate=0.0)
    run(bundle, "train", {**overrides, "epochs": 1})
    assert_equal_weights(tmp_path / "model.pt", trained / "model.pt")
    run(bundle, "train", {**overrides, "label_names": ["background", "Small", "Large", "Other"], "epochs": 1})
    source, target = weights(trained / "model.pt"), weights(tmp_path / "last_checkpoint.pt")
    equal = [key for key in source if source[key].shape == target[key].shape and torch.equal(source[key], target[key])]
    assert len(equal) >= len(source) - 2
