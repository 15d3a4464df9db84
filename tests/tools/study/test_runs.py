"""One run through ``monai.bundle``, with the process replaced: what is called, kept, resumed and refused."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path

import pytest
import torch

from custom_networks.bundle_folder import find_bundle, profile_path, read_config
from tests.synthetic import BUNDLES
from tools.study import runs

BUNDLE = BUNDLES[0]
CURVE = "epoch,loss,learning_rate,seconds,validation_metric\n1,2.0,0.1,3.0,\n2,1.5,0,4.5,0.25\n"


class Processes:
    """Stand in for ``subprocess.run``: keep the commands and write what the configs would."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.fail_at = -1
        self.weights = True
        self.dropped: list[Path] = []

    def __call__(self, command, stdout, env, **_):
        self.commands.append(command)
        self.environments.append(env)
        if len(self.commands) - 1 == self.fail_at:
            (self.work / "last_checkpoint.pt").touch()
            stdout.write("first\nerror: the disk is full\n\n")
            return subprocess.CompletedProcess(command, 1)
        (self.work / "training_curve.csv").write_text(CURVE)
        (self.work / "metrics.json").write_text(
            json.dumps({"mean": {"dice": 0.25}, "files": {"a": {"image": "/mine/a.nii.gz"}}})
        )
        if self.weights:
            given = value(command, "args_file") if "--args_file" in command else "[]"
            files = [*self.dropped, *(ast.literal_eval(given) if given.startswith("[") else [given])]
            network = read_config(BUNDLE, "train", [Path(file) for file in files]).get_parsed_content("network_def")
            torch.save(network.state_dict(), self.work / "model.pt")
        return subprocess.CompletedProcess(command, 0)


@pytest.fixture
def processes(monkeypatch, tmp_path):
    fake = Processes(tmp_path / "work")
    monkeypatch.setattr(runs.subprocess, "run", fake)
    return fake


def value(command, key):
    return command[command.index(f"--{key}") + 1]


def test_a_run_trains_evaluates_and_is_recorded(processes):
    profile = next((BUNDLE / "configs" / "profiles").glob("*.json"))
    overrides = {"dataset_dir": "there", "seed": 4}
    record = runs.train_and_evaluate(BUNDLE, [profile], processes.work, overrides, threads=1)
    train, evaluate = processes.commands
    assert value(train, "config_file") == str([str(BUNDLE / "configs" / "train.json")])
    assert "evaluate.json" in value(evaluate, "config_file")
    for command in (train, evaluate):
        assert value(command, "args_file") == str(profile)
        assert (value(command, "seed"), value(command, "dataset_dir")) == ("4", "there")
        assert value(command, "ckpt_dir") == value(command, "output_dir") == str(processes.work)
    assert "--resume_ckpt" not in train
    assert value(train, "overwrite") == "True"
    assert "--overwrite" not in evaluate
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


def test_two_profiles_are_a_list(processes):
    profiles = sorted((BUNDLE / "configs" / "profiles").glob("*.json"))[:2]
    runs.train_and_evaluate(BUNDLE, profiles, processes.work, {})
    assert value(processes.commands[0], "args_file") == str([str(path) for path in profiles])


def test_a_failed_training_says_why_and_goes_on_next_time(processes):
    processes.fail_at = 0
    with pytest.raises(RuntimeError, match=r"train.log ended with exit code 1: error: the disk is full"):
        runs.train_and_evaluate(BUNDLE, [], processes.work, {})
    assert len(processes.commands) == 1
    runs.train_and_evaluate(BUNDLE, [], processes.work, {})
    assert value(processes.commands[1], "resume_ckpt") == str(processes.work / "last_checkpoint.pt")
    assert "--overwrite" not in processes.commands[1]


def test_a_failed_evaluation_does_not_train_again(processes):
    processes.fail_at = 1
    with pytest.raises(RuntimeError, match=r"evaluate\.log ended"):
        runs.train_and_evaluate(BUNDLE, [], processes.work, {})
    record = runs.train_and_evaluate(BUNDLE, [], processes.work, {})
    assert ["evaluate.json" in str(command) for command in processes.commands] == [False, True, True]
    assert record["epochs"] == 2


def test_a_complete_run_is_not_taken_for_the_next_one(processes):
    processes.work.mkdir()
    (processes.work / "last_checkpoint.pt").touch()
    runs.train_and_evaluate(BUNDLE, [], processes.work, {"seed": 1})
    runs.train_and_evaluate(BUNDLE, [], processes.work, {"seed": 2})
    assert ["evaluate.json" in str(command) for command in processes.commands] == [False, True, False, True]
    assert "--resume_ckpt" in processes.commands[0]
    assert "--resume_ckpt" not in processes.commands[2]


def test_a_training_without_validation_is_refused(processes):
    processes.weights = False
    with pytest.raises(RuntimeError, match=r"the training wrote no \S+model.pt; set val_interval"):
        runs.train_and_evaluate(BUNDLE, [], processes.work, {})


def test_a_training_of_another_network_than_the_profiles_describe_is_refused(processes, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"network_def#features": [4, 4]}))
    processes.dropped = [other]
    with pytest.raises(ValueError, match=r"model\.pt does not fit"):
        runs.train_and_evaluate(BUNDLE, [], processes.work, {})


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
