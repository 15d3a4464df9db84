"""Training, evaluation and inference of every bundle on a tiny data set, with the shipped configs."""

from __future__ import annotations

import json

import pytest
import torch

from custom_networks.workflow.report.training_data import read_training_data
from tests.synthetic import EPOCHS, IMAGES, KINDS, kind, read_rows, run, tiny_training, weights


def test_training_writes_weights_state_and_curve(trained):
    state = torch.load(trained / "model.pt", weights_only=True)
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    assert all(state[key].dtype == torch.float32 for key in set(state) - counters)
    checkpoint = torch.load(trained / "last_checkpoint.pt", weights_only=True)
    assert set(checkpoint) == {"model", "optimizer", "lr_scheduler", "trainer", "best_checkpoint", "training_cases"}
    assert checkpoint["model"].keys() == state.keys()
    rows = read_rows(trained / "training_curve.csv")
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, EPOCHS + 1)]
    assert [bool(row["validation_metric"]) for row in rows] == [epoch % 4 == 0 for epoch in range(1, EPOCHS + 1)]
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    assert float(rows[-1]["learning_rate"]) == 0
    assert list(trained.glob("events.out.tfevents.*"))
    assert not list(trained.glob("*partial*"))


def test_training_describes_its_data(bundle, trained):
    described = read_training_data(trained / "model.pt")
    if kind(bundle) is KINDS["classification"]:
        assert described is None
        return
    assert described["cases"] == kind(bundle).training_cases
    assert list(described["volumes_ml"]) == kind(bundle).label_names[1:]
    assert "case_" not in (trained / "training_data.json").read_text()


def test_the_best_weights_are_kept(trained):
    rows = read_rows(trained / "training_curve.csv")
    validated = {int(row["epoch"]): float(row["validation_metric"]) for row in rows if row["validation_metric"]}
    best = torch.load(trained / "last_checkpoint.pt", weights_only=True)["best_checkpoint"]
    assert best["best_metric"] == pytest.approx(max(validated.values()), abs=1e-6)
    assert validated[best["best_epoch"]] == max(validated.values())


def test_evaluation_writes_its_report_and_nothing_else(bundle, evaluate):
    folder = evaluate()
    assert sorted(path.name for path in folder.iterdir()) == kind(bundle).reports
    assert json.loads((folder / "metrics.json").read_text())["cases"] == len(kind(bundle).evaluated)


def test_inference_writes_its_results_and_nothing_else(bundle, dataset, infer):
    folder = infer(dataset / IMAGES)
    assert sorted(path.name for path in folder.iterdir()) == kind(bundle).results


def test_finetuning_starts_from_the_weights(bundle, dataset, trained, tmp_path):
    start = {"finetune_ckpt": str(trained / "model.pt"), "optimizer#lr": 0.0, "epochs": 1}
    run(bundle, "train", tiny_training(bundle, dataset, tmp_path, **start))
    source, target = weights(trained / "model.pt"), weights(tmp_path / "last_checkpoint.pt")
    assert source.keys() == target.keys()
    moving = ("running_mean", "running_var", "num_batches_tracked")  # batch norm follows the data at any learning rate
    assert [key for key in source if not key.endswith(moving) and not torch.equal(source[key], target[key])] == []
