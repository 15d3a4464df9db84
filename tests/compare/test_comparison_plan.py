"""What the networks of a comparison have in common, and the search for a learning rate."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from custom_networks.adapt.pace import Pace
from custom_networks.compare import trainings as module
from custom_networks.compare.comparison import device_of
from custom_networks.compare.entries import find_entries
from custom_networks.compare.fits import Fit
from custom_networks.compare.plan import Budget, check_folds, common_knobs, patients_of, schedule
from custom_networks.compare.search import choose_rate, inner_split, notes_of_search
from custom_networks.compare.trainings import Study, learning_rates, run_trainings
from custom_networks.studies.side_by_side import Seat
from tests.synthetic import SEGMENTATION, write_dataset

PACE = Pace(start=20, step=0.5, epoch=0.1, validation=10, cases=16)
GIVEN = {
    "dataset_dir": "data",
    "in_channels": 1,
    "label_names": ["background", "one"],
    "spacing": [1, 1, 1],
    "patch_size": [8, 8, 8],
    "batch_size": 2,
    "foreground_ratio": 0.75,
    "network_def#strides": [2, 2],
    "epochs": 9,
    "ckpt_dir": "elsewhere",
    "learning_rate": 1.0,
}


def test_knobs_of_one_network_and_of_one_training_are_left_out(tmp_path):
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps(GIVEN))
    knobs = common_knobs(profile)
    assert set(GIVEN) - set(knobs) == {"network_def#strides", "epochs", "ckpt_dir", "learning_rate"}
    assert knobs["dataset_dir"].endswith("/data")
    profile.write_text(json.dumps({key: GIVEN[key] for key in ("dataset_dir", "in_channels", "label_names")}))
    with pytest.raises(ValueError, match="has no spacing, patch_size, batch_size"):
        common_knobs(profile)


@pytest.mark.parametrize("steps", [1, 7, 100, 350, 20_000])
def test_steps_are_taken_and_one_validation_is_at_the_end(steps):
    own = schedule(Budget(steps=steps), PACE, SEGMENTATION[0], 2)
    assert own["epochs"] * own["steps_per_epoch"] == pytest.approx(steps, rel=0.02)
    assert own["val_interval"] == own["epochs"]


def test_minutes_are_filled():
    own = schedule(Budget(minutes=10), PACE, SEGMENTATION[0], 2)
    taken = 20 + own["epochs"] * (0.1 + own["steps_per_epoch"] * 0.5) + 10
    assert 0.9 * 600 < taken < 600
    assert own["val_interval"] == own["epochs"]


def test_a_share_of_a_budget_is_of_what_was_given():
    assert Budget(minutes=10).share(0.2) == Budget(minutes=2)
    assert Budget(steps=3).share(0.2) == Budget(steps=1)


def test_a_search_keeps_patients_together(tmp_path):
    root = write_dataset(tmp_path / "data")
    names = sorted(patients_of({"dataset_dir": str(root)}))
    assert patients_of({"dataset_dir": str(root)}) == {name: name for name in names}
    lines = [f"{name},{number // 2}" for number, name in enumerate(names)]
    (root / "patients.csv").write_text("\n".join(["case,patient", *lines]) + "\n")
    of = patients_of({"dataset_dir": str(root)})
    assert of[names[0]] == of[names[1]] != of[names[2]]
    split = inner_split(names[:5], of)
    assert split == {"train": names[2:5], "val": names[:2]}


def test_patients_who_share_a_scan_are_one(tmp_path):
    """Else the search holds back a copy of a case that it trains on, and every training of it ends."""
    root = write_dataset(tmp_path / "data")
    names = sorted(patients_of({"dataset_dir": str(root)}))
    lines = [f"{name},{number // 2}" for number, name in enumerate(names)]
    (root / "patients.csv").write_text("\n".join(["case,patient", *lines]) + "\n")
    image = {path.name.split(".")[0].removesuffix("_0000"): path for path in (root / "imagesTr").iterdir()}
    shutil.copy(image[names[0]], image[names[4]])
    of = patients_of({"dataset_dir": str(root)})
    assert {of[name] for name in (*names[:2], *names[4:6])} == {names[0]}
    assert {of[name] for name in names[2:4]} == {names[2]}


def test_folds_that_hold_back_the_same_cases_are_none(tmp_path):
    root = write_dataset(tmp_path / "data")
    knobs = {"dataset_dir": str(root)}
    check_folds(knobs, SEGMENTATION, [0, 1, 4])
    with pytest.raises(ValueError, match="fold must lie between 0 and 4"):
        check_folds(knobs, SEGMENTATION, [7])
    names = sorted(patients_of(knobs))
    (tmp_path / "folds.json").write_text(json.dumps([{"train": names[2:], "val": names[:2]}] * 2))
    with pytest.raises(ValueError, match=f"the folds 0 and 1 both hold back {names[0]}"):
        check_folds({**knobs, "folds_file": str(tmp_path / "folds.json")}, SEGMENTATION, [0, 1])


def test_bundles_that_hold_back_other_cases_are_not_compared(tmp_path):
    knobs = {"dataset_dir": str(write_dataset(tmp_path / "data"))}
    names = sorted(patients_of(knobs))
    bundles = [tmp_path / "one", tmp_path / "two"]
    for number, bundle in enumerate(bundles):
        (bundle / "configs").mkdir(parents=True)
        folds = {"folds": [names[number : number + 2], names[number + 2 : number + 4]]}
        (bundle / "configs" / "folds.json").write_text(json.dumps(folds))
    with pytest.raises(ValueError, match=r"one and two hold back other cases in fold 0, .* give a folds_file"):
        check_folds(knobs, [bundles[0], *bundles], [0, 1])
    check_folds({**knobs, "folds_file": str(bundles[1] / "configs" / "folds.json")}, bundles, [0, 1])


def test_the_device_is_that_which_was_asked_for():
    assert device_of({"device": "cpu"}, [Seat(device="cuda:1")]) == torch.device("cuda:1")
    assert device_of({"device": "cpu"}, [Seat()]) == torch.device("cpu")
    assert device_of({}, [Seat()]).type == ("cuda" if torch.cuda.is_available() else "cpu")


def study_of(tmp_path, **changed):
    entry = find_entries(["attention_unet", "transunet"], alone=True)[0]
    knobs = {"dataset_dir": str(write_dataset(tmp_path / "data")), "batch_size": 1}
    given = {
        "folder": tmp_path / "out",
        "fits": [Fit(entry, {}, 1, 1, 1)],
        "knobs": knobs,
        "budget": Budget(steps=500),
        "rates": [0.003, 0.001],
        "folds": [0, 1],
        "seeds": [0, 1],
        "patient_of": patients_of(knobs),
        "places": [Seat()],
    }
    return Study(**given | changed)


def test_the_best_rate_of_each_fold_is_taken_by_the_training_cases(tmp_path, monkeypatch):
    """Trials and trainings are those that were asked for; a trial is given the inner folds alone."""
    dice = {(0, 0.001): 0.5, (0, 0.003): 0.7, (1, 0.001): 0.6, (1, 0.003): 0.6}
    asked = []

    def train(bundle, profiles, folder, overrides, seat):
        profile = json.loads(profiles[0].read_text())
        asked.append((profile, overrides))
        score = dice[profile["fold"], profile["learning_rate"]] if "folds_file" in profile else 0.9
        folder.mkdir(parents=True, exist_ok=True)
        averages = {"mean": {"dice": score}, "classes": {"a": {"dice": {"mean": score}}}}
        (folder / "metrics.json").write_text(json.dumps(averages))
        (folder / "training_curve.csv").write_text("epoch,loss\n1,0.7\n")

    monkeypatch.setattr(module, "train_and_evaluate", train)
    monkeypatch.setattr(module, "pace_of", lambda *arguments: PACE)
    study, said = study_of(tmp_path), []
    assert run_trainings(study, said.append) == {}
    assert learning_rates(study, study.fits[0]) == {0: 0.003, 1: 0.001}
    trials = [profile for profile, _ in asked if "folds_file" in profile]
    assert len(trials) == 4
    assert {profile["epochs"] * profile["steps_per_epoch"] for profile in trials} == {100}
    rates = {0: 0.003, 1: 0.001}
    expected = [{"fold": fold, "seed": seed, "learning_rate": rates[fold]} for seed in (0, 1) for fold in (0, 1)]
    assert [overrides for profile, overrides in asked if "folds_file" not in profile] == expected
    assert "attention_unet, fold 1: learning rate 0.001" in said


def test_a_search_that_finds_nothing_goes_by_the_loss():
    """In so few steps it is chance which class is found first."""
    few = {"dice": 0.09, "worst_class": 0.0, "loss": 1.8}
    none = {"dice": None, "worst_class": None, "loss": 1.2}
    chosen = choose_rate({0.003: none, 0.001: few})
    assert (chosen["learning_rate"], chosen["by"]) == (0.003, "loss")
    assert choose_rate({0.003: few, 0.001: few})["learning_rate"] == 0.001
    learnt = {"dice": 0.5, "worst_class": 0.1, "loss": 1.9}
    chosen = choose_rate({0.003: none, 0.001: learnt})
    assert (chosen["learning_rate"], chosen["by"]) == (0.001, "dice")
    (edge, why) = notes_of_search("net", [0.001, 0.003], {"0": choose_rate({0.003: none, 0.001: few})})
    assert edge == "net: its learning rate 0.003 is the greatest that was tried, one beyond it may do better"
    assert why == "net: no trial of its search found every class, so the training loss chose its learning rate"
    assert notes_of_search("net", [0.001], {"0": {"learning_rate": 0.001}}) == []


@pytest.mark.parametrize(("most", "held"), [(math.inf, 4), (7, 3), (2, 1), (0.5, 1)])
def test_a_search_holds_back_what_there_is_time_for(most, held):
    """Of 20 patients with two cases each at most every fifth."""
    of = {f"p{n:02d}{side}": f"p{n:02d}" for n in range(20) for side in "ab"}
    split = inner_split(list(of), of, most)
    assert len(split["val"]) == 2 * held
    assert {of[name] for name in split["val"]}.isdisjoint(of[name] for name in split["train"])
    assert sorted(split["train"] + split["val"]) == sorted(of)


def test_a_trial_is_scored_in_a_part_of_its_minutes(tmp_path, monkeypatch):
    """Of three minutes, 36 seconds: one case of 20 seconds, whose validation takes no more of the time."""
    slow = replace(PACE, validation=40.0)  # of the two cases of a fold
    monkeypatch.setattr(module, "pace_of", lambda *arguments: slow)
    trials = []

    def train(bundle, profiles, folder, overrides, seat):
        profile = json.loads(profiles[0].read_text())
        trials.append(profile)
        raise RuntimeError("enough")

    monkeypatch.setattr(module, "train_and_evaluate", train)
    study = study_of(tmp_path, budget=Budget(minutes=15), folds=[0])
    assert len(run_trainings(study, print)) == 2
    (split,) = json.loads((tmp_path / "out" / "search_folds.json").read_text())
    assert (len(split["train"]), len(split["val"])) == (4, 1)
    monkeypatch.setattr(module, "pace_of", lambda *arguments: PACE)  # time for more, but others were tried with this
    run_trainings(study, print)
    assert json.loads((tmp_path / "out" / "search_folds.json").read_text()) == [split]
    seconds = 0.98 * 180 - slow.start - 20
    for profile in trials[:2]:
        taken = profile["epochs"] * (slow.epoch + profile["steps_per_epoch"] * slow.step)
        assert 0.9 * seconds < taken <= seconds


def test_a_rate_that_diverges_is_left_out(tmp_path, monkeypatch):
    """Of the first network the greater rate, of the second both."""

    def train(bundle, profiles, folder, overrides, seat):
        profile = json.loads(profiles[0].read_text())
        if "folds_file" in profile and (profile["learning_rate"] == 0.003 or "transunet" in str(folder)):
            raise RuntimeError("train.log ended with exit code 1: error: the loss became nan in epoch 1, step 2; ...")
        folder.mkdir(parents=True, exist_ok=True)
        averages = {"mean": {"dice": 0.5}, "classes": {"a": {"dice": {"mean": 0.5}}}}
        (folder / "metrics.json").write_text(json.dumps(averages))
        (folder / "training_curve.csv").write_text("epoch,loss\n1,0.7\n")

    monkeypatch.setattr(module, "train_and_evaluate", train)
    monkeypatch.setattr(module, "pace_of", lambda *arguments: PACE)
    entries = find_entries(["attention_unet", "transunet"], alone=True)
    study, said = study_of(tmp_path, fits=[Fit(entry, {}, 1, 1, 1) for entry in entries], folds=[0]), []
    failed = run_trainings(study, said.append)
    assert list(failed) == ["transunet"]
    assert "give smaller ones" in str(failed["transunet"])
    assert learning_rates(study, study.fits[0]) == {0: 0.001}
    assert any(line.startswith("attention_unet, fold 0, learning rate 0.003: the loss became") for line in said)
    assert not any(line.startswith("transunet, fold 0, seed") for line in said)


def test_what_stands_on_a_failure_is_not_begun(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no memory")

    monkeypatch.setattr(module, "pace_of", broken)
    monkeypatch.setattr(module, "train_and_evaluate", lambda *arguments: pytest.fail("begun"))
    failed = run_trainings(study_of(tmp_path), print)
    assert {name: str(error) for name, error in failed.items()} == {"attention_unet": "no memory"}
