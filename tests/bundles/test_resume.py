"""A resumed training equals an uninterrupted one bit by bit, with dropout and every augmentation on."""

from __future__ import annotations

import pytest
import torch

from tests.synthetic import (
    BUNDLES,
    ONE_PER_RECIPE,
    assert_equal_weights,
    config,
    each,
    each_slowly,
    kind,
    read_rows,
    run,
    tiny_training,
)

# more than the cases give, less than twice as many
STEPS = 5


def restless(bundle):
    """Return overrides that switch on everything random."""
    random = config(bundle)["train"]["random_transforms"]
    chances = {f"train#random_transforms#{i}#prob": 0.5 for i, transform in enumerate(random) if "prob" in transform}
    assert len(chances) >= 3
    return {**chances, "mirror_axes": [0, 2], "network_def#dropout": 0.3, "epochs": 4, "val_interval": 2}


@each_slowly(BUNDLES, quick=ONE_PER_RECIPE)
def test_two_and_two_epochs_equal_four(bundle, dataset, tmp_path):
    """Without and with worker processes, some with epochs of a number of steps: all bundles have one recipe."""
    number = BUNDLES.index(bundle)
    steps = None if number % 3 else STEPS
    knobs = {**restless(bundle), "num_workers": 2 * (number % 2), "cache_rate": 1.0, "steps_per_epoch": steps}
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    run(bundle, "train", tiny_training(bundle, dataset, straight, **knobs))
    run(bundle, "train", tiny_training(bundle, dataset, parts, **knobs, **{"train#trainer#max_epochs": 2}))
    half = torch.load(parts / "last_checkpoint.pt", weights_only=True)
    torch.rand(7)  # the state of the generators must not matter
    run(bundle, "train", tiny_training(bundle, dataset, parts, **knobs, resume_ckpt=str(parts / "last_checkpoint.pt")))

    assert_equal_weights(straight / "last_checkpoint.pt", parts / "last_checkpoint.pt")
    assert_equal_weights(straight / "model.pt", parts / "model.pt")
    first, second = (torch.load(p / "last_checkpoint.pt", weights_only=True) for p in (straight, parts))
    assert half["trainer"]["epoch_length"] * 2 == half["trainer"]["iteration"]
    assert (half["trainer"]["epoch_length"] == STEPS) is (steps is not None)
    for key in ("trainer", "lr_scheduler", "best_checkpoint"):
        assert first[key] == second[key]
    moments = [checkpoint["optimizer"]["state"] for checkpoint in (first, second)]
    for number, state in moments[0].items():
        assert all(torch.equal(value, moments[1][number][name]) for name, value in state.items())
    curves = [read_rows(folder / "training_curve.csv") for folder in (straight, parts)]
    curves = [[{**row, "seconds": ""} for row in curve] for curve in curves]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 4


@each(ONE_PER_RECIPE[:1])
def test_neither_processes_nor_a_folder_of_cases_change_a_training(bundle, dataset, tmp_path):
    kept = tmp_path / "kept"
    ways = {"plain": {}, "workers": {"num_workers": 2}, "files": {"cache_dir": str(kept)}}
    for name, knobs in ways.items():
        run(bundle, "train", tiny_training(bundle, dataset, tmp_path / name, **restless(bundle), **knobs))
        assert_equal_weights(tmp_path / "plain" / "last_checkpoint.pt", tmp_path / name / "last_checkpoint.pt")
    assert len(list(kept.iterdir())) == kind(bundle).training_cases


@each(ONE_PER_RECIPE)
def test_another_seed_gives_other_weights(bundle, dataset, tmp_path):
    for seed in (0, 1):
        run(bundle, "train", tiny_training(bundle, dataset, tmp_path / str(seed), seed=seed, epochs=1))
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "0" / "model.pt", tmp_path / "1" / "model.pt")
