"""What segmentation bundles learn, evaluate and write."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from custom_networks.workflow.report.segmentation_report import METRICS
from tests.synthetic import (
    CASES,
    IMAGES,
    SEGMENTATION,
    config,
    each,
    kind,
    read_rows,
    run,
    tiny_training,
    weights,
    write_dataset,
)

pytestmark = each(SEGMENTATION)


def test_evaluation_writes_a_row_per_case_and_class(bundle, dataset, trained, evaluate):
    folder, cases, names = evaluate(), kind(bundle).held_out, kind(bundle).label_names[1:]
    rows = read_rows(folder / "metrics.csv")
    assert [(row["case"], row["class"]) for row in rows] == [(case, name) for case in cases for name in names]
    assert set(METRICS) < set(rows[0])
    summary = json.loads((folder / "metrics.json").read_text())
    assert list(summary["classes"]) == names
    dice = [float(row["dice"]) for row in rows]
    assert summary["mean"]["dice"] == pytest.approx(np.mean(dice), abs=1e-5)
    assert summary["mean"]["dice"] > 0.5
    best = torch.load(trained / "last_checkpoint.pt", weights_only=True)["best_checkpoint"]["best_metric"]
    assert summary["mean"]["dice"] == pytest.approx(best, abs=1e-4)
    reference = nib.load(dataset / "labelsTr" / f"{cases[0]}.nii.gz").get_fdata()
    assert float(rows[0]["reference_volume"]) == (reference == 1).sum()


def test_inference_writes_what_evaluation_measured(bundle, dataset, evaluate, infer):
    rows = read_rows(evaluate() / "metrics.csv")
    folder = infer(dataset / IMAGES)
    for row in rows:
        image = nib.load(dataset / IMAGES / f"{row['case']}.nii.gz")
        mask = nib.load(folder / f"{row['case']}_seg.nii.gz")
        assert mask.get_data_dtype() == np.uint8
        assert mask.shape == image.shape
        np.testing.assert_array_equal(mask.affine, image.affine)
        volume = (mask.get_fdata() == kind(bundle).label_names.index(row["class"])).sum()
        assert float(row["prediction_volume"]) == volume


def test_deep_supervision_trains_and_its_weights_serve_inference(bundle, dataset, tmp_path, evaluate, infer):
    if "deep_supervision" not in config(bundle)["network_def"]:
        pytest.skip("this network has no deep supervision")
    on = {"network_def#deep_supervision": True}
    run(bundle, "train", tiny_training(bundle, dataset, tmp_path, **on))
    assert any(key.startswith("auxiliary_heads.") for key in weights(tmp_path / "model.pt"))
    folder = infer(dataset / IMAGES / "case_00.nii.gz", ckpt_dir=str(tmp_path))
    assert [path.name for path in folder.iterdir()] == ["case_00_seg.nii.gz"]
    assert (evaluate(ckpt_dir=str(tmp_path)) / "metrics.csv").is_file()


def test_fold_knob_chooses_the_validation_cases(evaluate):
    rows = read_rows(evaluate(fold=1) / "metrics.csv")
    assert {row["case"] for row in rows} == {"case_01", "case_06"}


def test_one_profile_moves_the_bundle_to_other_data(bundle, tmp_path):
    dataset = write_dataset(tmp_path / "data", cases=CASES - 1, channels=2, spacing=(1.0, 1.0, 1.6))
    mine = {"in_channels": 2, "label_names": ["background", "A", "B"], "spacing": [1.2, 1.2, 1.6]}
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps(tiny_training(bundle, dataset, tmp_path / "out", **mine)))
    run(bundle, "train", {}, args_file=str(profile))
    run(bundle, ["train", "evaluate"], {}, args_file=str(profile))
    assert list(json.loads((tmp_path / "out" / "metrics.json").read_text())["classes"]) == ["A", "B"]
    images = {"dataset_dir": str(dataset / IMAGES / "case_03.nii.gz")}
    run(bundle, "inference", images, args_file=str(profile))
    mask = nib.load(tmp_path / "out" / "case_03_seg.nii.gz")
    image = nib.load(images["dataset_dir"])
    assert mask.shape == image.shape[:3]
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-6)


def test_finetuning_keeps_what_fits(bundle, dataset, trained, tmp_path):
    knobs = {"finetune_ckpt": str(trained / "model.pt"), "optimizer#lr": 0.0, "epochs": 1}
    more = {"label_names": [*kind(bundle).label_names, "Other"]}
    run(bundle, "train", tiny_training(bundle, dataset, tmp_path, **knobs, **more))
    source, target = weights(trained / "model.pt"), weights(tmp_path / "last_checkpoint.pt")
    lost = {key.partition(".")[0] for key in source if not torch.equal(source[key], target[key])}
    # a decoder whose widths follow from the number of classes starts anew as a whole
    assert lost & {"head", "up_projection"}
    assert lost <= {"head", "up_projection", "auxiliary_heads"}
