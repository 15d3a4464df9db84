"""The schedule that fills a number of minutes, and what it is measured from."""

from __future__ import annotations

import math

import pytest

from custom_networks.adapt import minutes as module
from custom_networks.adapt.draft import Draft
from custom_networks.adapt.minutes import fill_minutes, schedule_within
from custom_networks.adapt.pace import Pace, measure
from tests.synthetic import ONE_PER_RECIPE, SEGMENTATION, config, each, kind, tiny_training

USUAL = {"start": 20.0, "step": 0.5, "epoch": 0.1, "validation": 10.0, "cases": 16}


def seconds(pace, epochs, interval, steps):
    """Return how long such a training takes."""
    validations = math.ceil(epochs / interval)
    return pace.start + epochs * (pace.epoch + steps * pace.step) + validations * pace.validation


@pytest.mark.parametrize("minutes", [3, 12, 60, 600])
@pytest.mark.parametrize("steps", [1, 8, 166, 5000])
@pytest.mark.parametrize(
    "changed", [{}, {"step": 0.02}, {"step": 4.0}, {"validation": 60.0}, {"epoch": 2.0}, {"start": 60.0}], ids=str
)
def test_the_training_ends_in_time(minutes, steps, changed):
    pace = Pace(**USUAL | changed)
    epochs, interval, own = schedule_within(minutes, pace, steps)
    taken = seconds(pace, epochs, interval, own)
    assert 0.90 * 60 * minutes <= taken <= 60 * minutes
    assert epochs >= 10
    assert own == steps or not 50 <= (taken - pace.start) / (pace.epoch + steps * pace.step) <= 450
    # ten validations, or fewer where they take a fifth of the time, one in any case
    spent = math.ceil(epochs / interval) * pace.validation
    assert spent <= max(0.2 * 60 * minutes, pace.validation)


def test_too_little_time_is_refused_with_how_much_would_do():
    pace = Pace(**USUAL)
    with pytest.raises(
        ValueError, match=r"^0.5 minutes do not suffice: the start takes 20 s, a step 0.5 s and"
    ) as error:
        schedule_within(0.5, pace, 8)
    schedule_within(int(str(error.value).rsplit(maxsplit=1)[-1]), pace, 8)


@pytest.mark.parametrize(("step", "batches", "batch"), [(1.0, [1], 1), (0.05, [1, 2], 2)])
def test_small_batches_first(monkeypatch, step, batches, batch):
    """A batch of two where the time suffices for enough steps of it, 500 here."""
    measured = []

    def pace_of(bundle, config, profile, folds):
        measured.append(profile["batch_size"])
        return Pace(**USUAL | {"step": step * profile["batch_size"]})

    monkeypatch.setattr(module, "measure", pace_of)
    profile, draft = {"batch_size": 2}, Draft()
    fill_minutes(SEGMENTATION[0], config(SEGMENTATION[0]), profile, 5, draft, enough=500, folds=None)
    assert measured == batches
    assert profile["batch_size"] == batch
    steps = profile["steps_per_epoch"] or math.ceil(USUAL["cases"] / batch)
    assert (profile["epochs"] * steps >= 500) is (batch == 2)


def test_the_batch_of_a_gpu_plan_stays(monkeypatch):
    monkeypatch.setattr(module, "measure", lambda *arguments: Pace(**USUAL))
    profile = {"batch_size": 4, "steps_per_epoch": 250}
    draft = Draft(dict(profile))
    fill_minutes(SEGMENTATION[0], config(SEGMENTATION[0]), profile, 300, draft, enough=None, folds=None)
    assert (profile["batch_size"], profile["steps_per_epoch"]) == (4, 250)
    assert profile["epochs"] == int((0.98 * 300 * 60 - 20 - 100) / 125.1)


@each(ONE_PER_RECIPE)
def test_a_training_is_measured_and_leaves_nothing(bundle, tmp_path, monkeypatch):
    """With all its parts, on a few cases; the times are those of the whole."""
    monkeypatch.setattr("custom_networks.adapt.pace._seconds_of_imports", lambda: 1000.0)
    data = kind(bundle).write(tmp_path / "data")
    profile = {**tiny_training(bundle, data, tmp_path / "out", batch_size=2), "device": "cpu"}
    before = sorted(tmp_path.rglob("*"))
    pace = measure(bundle, {**config(bundle)}, profile, None)
    assert sorted(tmp_path.rglob("*")) == before
    assert pace.cases == kind(bundle).training_cases
    assert pace.start > 1000
    assert 0 < pace.step < 100
    assert 0 < pace.validation < 100
    assert pace.epoch > 0


LARGE = {"batch_size": 1, "patch_size": [64, 64, 64], "network_def#strides": [2, 2]}


def cheaper(monkeypatch, minutes, **changed):
    """Plan with a pace that a smaller patch makes quicker in proportion, and return what came of it."""
    measured, asked, draft = [], [], Draft()

    def pace_of(bundle, config, profile, folds):
        measured.append(list(profile["patch_size"]))
        share = math.prod(profile["patch_size"]) / 64**3
        usual = USUAL | changed
        return Pace(**usual | {"step": usual["step"] * share, "validation": usual["validation"]})

    def smaller(voxels):
        asked.append(voxels)
        return {"patch_size": [int(voxels ** (1 / 3))] * 3}

    monkeypatch.setattr(module, "measure", pace_of)
    profile = dict(LARGE)
    fill_minutes(
        SEGMENTATION[0], config(SEGMENTATION[0]), profile, minutes, draft, enough=5, folds=None, smaller=smaller
    )
    return profile, draft, measured, asked


def test_a_patch_that_leaves_few_steps_becomes_smaller(monkeypatch):
    profile, draft, measured, asked = cheaper(monkeypatch, 12, step=3.0)
    possible = (0.98 * 720 - 20 - 10) / 3
    assert asked == [int(64**3 * possible / 1000)]
    assert measured == [[64, 64, 64], profile["patch_size"]]
    assert 900 <= profile["epochs"] * (profile["steps_per_epoch"] or 16) <= 1120
    assert f"the time allows some {possible:.0f} steps with 64 x 64 x 64, 1000 are wanted" in draft.as_table()


def test_it_has_32_voxels_a_side_at_least(monkeypatch):
    _, _, _, asked = cheaper(monkeypatch, 12, step=60.0)
    assert asked == [32**3]


def test_windows_overlap_less_where_a_validation_is_dear(monkeypatch):
    profile, draft, measured, asked = cheaper(monkeypatch, 24, validation=400.0)
    assert profile["overlap"] == 0.25
    assert len(measured) == 2
    assert not asked
    assert "with 0.5 a validation would take 400 s of the time" in draft.as_table()


def test_what_suffices_stays(monkeypatch):
    profile, _, measured, asked = cheaper(monkeypatch, 12)
    assert measured == [[64, 64, 64]]
    assert not asked
    assert "overlap" not in profile


def test_a_second_measure_is_of_all_cases_again(tmp_path, monkeypatch):
    """The first one takes a few of them, and leaves the config that it is given alone."""
    monkeypatch.setattr("custom_networks.adapt.pace._seconds_of_imports", lambda: 0.0)
    bundle = SEGMENTATION[0]
    data = kind(bundle).write(tmp_path / "data")
    profile = {**tiny_training(bundle, data, tmp_path / "out", batch_size=1), "device": "cpu"}
    own = config(bundle)
    assert [measure(bundle, own, profile, None).cases for _ in range(2)] == [kind(bundle).training_cases] * 2
    assert own == config(bundle)
