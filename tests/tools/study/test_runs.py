"""The record of one run through ``monai.bundle``, whose processes are replaced."""

from __future__ import annotations

import json

import pytest

from custom_networks.bundle_folder import find_bundle, profile_path
from custom_networks.studies.children import CHILDREN
from tests.studies.bundle_runs import BundleRuns
from tests.synthetic import BUNDLES
from tools.study import runs

BUNDLE = BUNDLES[0]


@pytest.fixture
def processes(monkeypatch):
    fake = BundleRuns(BUNDLE)
    monkeypatch.setattr(CHILDREN, "run", fake)
    return fake


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def test_a_run_is_recorded(processes, work):
    profile = next((BUNDLE / "configs" / "profiles").glob("*.json"))
    overrides = {"dataset_dir": "there", "seed": 4}
    record = runs.train_and_evaluate(BUNDLE, [profile], work, overrides, threads=1)
    assert len(processes.commands) == 2
    assert {env["OMP_NUM_THREADS"] for env in processes.environments} == {"1"}
    assert record["overrides"] == {"seed": 4}
    assert record["profiles"] == [profile.stem]
    assert record["epochs"] == 2
    assert record["curve"][0] == {"epoch": 1.0, "loss": 2.0, "learning_rate": 0.1, "seconds": 3.0}
    assert record["train_seconds"] == 7.5
    assert record["metrics"] == {"mean": {"dice": 0.25}}
    assert record["machine"]["threads"] == 1
    assert record["parameters"] > 1000
    assert record["macs"] > record["parameters"]
    assert json.loads(json.dumps(record)) == record


def test_a_complete_run_is_not_taken_for_the_next_one(processes, work):
    runs.train_and_evaluate(BUNDLE, [], work, {"seed": 1})
    assert (work / "model.pt").is_file()
    runs.train_and_evaluate(BUNDLE, [], work, {"seed": 2})
    assert ["evaluate.json" in str(command) for command in processes.commands] == [False, True, False, True]
    assert "--resume_ckpt" not in processes.commands[2]


def test_a_run_that_failed_is_not_taken_for_another_one(processes, work):
    processes.fail_at = 0
    with pytest.raises(RuntimeError, match="the disk is full"):
        runs.train_and_evaluate(BUNDLE, [], work, {"seed": 1})
    with pytest.raises(ValueError, match="holds a run of another request"):
        runs.train_and_evaluate(BUNDLE, [], work, {"seed": 2})


def test_a_training_of_another_network_than_the_profiles_describe_is_refused(processes, work, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"network_def#features": [4, 4]}))
    processes.dropped = [other]
    with pytest.raises(ValueError, match=r"model\.pt does not fit"):
        runs.train_and_evaluate(BUNDLE, [], work, {})


def test_cost_follows_the_profiles(tmp_path):
    small = tmp_path / "small.json"
    features = json.loads((BUNDLE / "configs" / "train.json").read_text())["network_def"]["features"]
    small.write_text(json.dumps({"network_def#features": [4] * len(features)}))
    shipped, tiny = runs.network_cost(BUNDLE, []), runs.network_cost(BUNDLE, [small])
    assert shipped["parameters"] > tiny["parameters"] > 0
    assert shipped["macs"] > tiny["macs"] > 0


def test_cost_of_a_network_that_hands_slices_of_parameters_to_modules():
    bundle = find_bundle("hippocampus_mr_medical_transformer_segmentation")
    released = runs.network_cost(bundle, [profile_path(bundle, "released_gates")])
    ungated = runs.network_cost(bundle, [profile_path(bundle, "position")])
    assert released["macs"] == ungated["macs"]
    assert released["parameters"] > ungated["parameters"]


def test_bundles_and_profiles_are_found_by_name():
    assert find_bundle(BUNDLE.name) == BUNDLE
    assert find_bundle(str(BUNDLE)) == BUNDLE
    with pytest.raises(ValueError, match=f"there is no bundle nothing; use one of .*{BUNDLE.name}"):
        find_bundle("nothing")
    assert profile_path(BUNDLE, "removal").is_file()
    with pytest.raises(ValueError, match=r"has no profile nothing; use one of .*removal"):
        profile_path(BUNDLE, "nothing")
    assert runs.device_name()
