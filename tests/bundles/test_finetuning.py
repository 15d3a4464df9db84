"""Weights as the start of a training: for other channels and classes, and as the candidate that stays unless beaten."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.bundle import ConfigParser

from custom_networks.files import checksum
from custom_networks.workflow import load_weights
from custom_networks.workflow.data.training_cases import find_seen_cases
from custom_networks.workflow.report.training_data import read_training_data
from tests.synthetic import (
    ONE_PER_RECIPE,
    SEGMENTATION,
    assert_equal_weights,
    config,
    each,
    kind,
    run,
    tiny_training,
    weights,
)

METRICS = dict(zip(ONE_PER_RECIPE, ("mean Dice", "AUC"), strict=True))


@each(SEGMENTATION)
def test_hippocampus_weights_start_a_task_of_two_channels_and_four_classes(bundle, caplog):
    definition = {**config(bundle)["network_def"], "in_channels": 2, "out_channels": 4}
    definition.pop("_requires_")
    network = ConfigParser({"network_def": definition}).get_parsed_content("network_def")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    path = bundle / "models" / "model.pt"
    source = torch.load(path, weights_only=True)
    load_weights(network, path, strict=False)
    after = network.state_dict()
    spread = {
        key for key in source if key in after and after[key].shape[1:2] == (2,) and source[key].shape[1:2] == (1,)
    }
    assert spread
    for key in spread:
        torch.testing.assert_close(after[key].sum(dim=1), source[key].sum(dim=1))
    fresh = {
        key for key in after if key not in spread and not (key in source and after[key].shape == source[key].shape)
    }
    assert all(torch.equal(after[key], before[key]) for key in fresh)
    assert all(torch.equal(after[key], source[key]) for key in set(after) - fresh - spread)
    # heads, and a decoder whose widths follow from the number of classes
    assert {after[key].shape[0] for key in fresh if not key.startswith("up_projection.")} <= {4}
    assert {key.partition(".")[0] for key in fresh} <= {"head", "auxiliary_heads", "up_projection"} and fresh
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    told = record.getMessage()
    assert "\n" not in told
    for key in spread | fresh:
        assert key.rpartition(".")[0] in told


def outcome(caplog) -> str:
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("custom_networks")]
    return [line for line in lines if line.startswith(("kept: ", "replaced: ", "trained: "))][-1]


def state_of(folder) -> dict:
    return torch.load(folder / "last_checkpoint.pt", weights_only=True)


@each(ONE_PER_RECIPE)
def test_a_training_that_makes_the_weights_worse_keeps_them(bundle, dataset, trained, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    start = trained / "model.pt"
    absurd = {"finetune_ckpt": str(start), "optimizer#lr": 1.0}
    run(bundle, "train", tiny_training(bundle, dataset, tmp_path, **absurd))
    assert_equal_weights(tmp_path / "model.pt", start)
    best = state_of(tmp_path)["best_checkpoint"]
    score = state_of(trained)["best_checkpoint"]["best_metric"]
    assert best["best_epoch"] == 0
    assert best["starting_metric"] == pytest.approx(score, abs=1e-6)
    words = f"kept: no epoch is better than the weights at the start, {METRICS[bundle]} {score:.3f} on "
    assert outcome(caplog).startswith(words)
    # what lies beside the weights is of them, not of the training that they have outlasted
    assert find_seen_cases(tmp_path / "model.pt").names == find_seen_cases(start).names
    described, before = read_training_data(tmp_path / "model.pt"), read_training_data(start)
    assert described == (before and {**before, "weights": checksum(tmp_path / "model.pt")})


@each(SEGMENTATION[:1])
def test_better_weights_replace_those_at_the_start_resumed_or_not(bundle, dataset, trained, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    start, straight, parts = tmp_path / "headless.pt", tmp_path / "straight", tmp_path / "parts"
    blank = {key: torch.zeros_like(value) for key, value in weights(trained / "model.pt").items() if "head" in key}
    torch.save({**weights(trained / "model.pt"), **blank}, start)
    knobs = {"finetune_ckpt": str(start), "epochs": 4, "val_interval": 2}
    run(bundle, "train", tiny_training(bundle, dataset, straight, **knobs))
    best = state_of(straight)["best_checkpoint"]
    assert best["best_epoch"] in (2, 4)
    assert best["best_metric"] > best["starting_metric"]
    said = f"replaced: mean Dice {best['starting_metric']:.3f} to {best['best_metric']:.3f} on 2 cases"
    assert outcome(caplog) == said
    caplog.clear()
    run(bundle, "train", tiny_training(bundle, dataset, parts, **knobs, **{"train#trainer#max_epochs": 2}))
    knobs["resume_ckpt"] = str(parts / "last_checkpoint.pt")
    run(bundle, "train", tiny_training(bundle, dataset, parts, **knobs))
    assert_equal_weights(straight / "last_checkpoint.pt", parts / "last_checkpoint.pt")
    assert_equal_weights(straight / "model.pt", parts / "model.pt")
    assert state_of(parts)["best_checkpoint"] == best
    assert outcome(caplog) == said


@each(SEGMENTATION[:1])
def test_a_head_that_starts_anew_is_no_candidate(bundle, dataset, trained, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    names = [*kind(bundle).label_names, "Other"]
    knobs = {"finetune_ckpt": str(trained / "model.pt"), "epochs": 1, "label_names": names}
    run(bundle, "train", tiny_training(bundle, dataset, tmp_path, **knobs))
    assert state_of(tmp_path)["best_checkpoint"]["starting_metric"] is None
    assert outcome(caplog).startswith("trained: mean Dice ")
