"""One run through ``monai.bundle``, with the processes replaced: what is called, resumed, left alone and refused."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys

import pytest
import torch

from custom_networks.studies import run
from custom_networks.studies.children import CHILDREN
from custom_networks.studies.run import forget, train_and_evaluate
from custom_networks.studies.side_by_side import Seat
from custom_networks.workflow.train.checkpoint import ENDED, has_ended
from tests.studies.bundle_runs import BundleRuns, value
from tests.synthetic import BUNDLES

BUNDLE = BUNDLES[0]
SEAT = Seat(threads=1)


@pytest.fixture
def processes(monkeypatch):
    fake = BundleRuns(BUNDLE)
    monkeypatch.setattr(CHILDREN, "run", fake)
    return fake


def is_evaluation(command):
    return "evaluate.json" in value(command, "config_file")


def test_a_run_trains_and_evaluates(processes, tmp_path):
    profile = next((BUNDLE / "configs" / "profiles").glob("*.json"))
    train_and_evaluate(BUNDLE, [profile], tmp_path / "work", {"dataset_dir": "there", "seed": 4}, SEAT, masks=True)
    train, evaluate = processes.commands
    assert value(train, "config_file") == str([str(BUNDLE / "configs" / "train.json")])
    assert is_evaluation(evaluate)
    for command in (train, evaluate):
        assert value(command, "args_file") == str(profile)
        assert (value(command, "seed"), value(command, "dataset_dir")) == ("4", "there")
        assert value(command, "ckpt_dir") == value(command, "output_dir") == str(tmp_path / "work")
        assert "--device" not in command
    assert "--resume_ckpt" not in train
    assert value(train, "overwrite") == "True"
    assert "--overwrite" not in evaluate
    assert value(evaluate, "validate#handlers#0#save_masks") == "True"
    assert "--validate#handlers#0#save_masks" not in train
    assert {env["OMP_NUM_THREADS"] for env in processes.environments} == {"1"}


def test_a_seat_may_be_a_device_and_masks_are_written_only_where_asked_for(processes, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    train_and_evaluate(BUNDLE, [], tmp_path, {"device": "cpu"}, Seat(device="cuda:1"))
    assert [value(command, "device") for command in processes.commands] == ["cuda:1"] * 2
    assert not any("save_masks" in word for command in processes.commands for word in command)
    assert "OMP_NUM_THREADS" not in processes.environments[0]


def test_two_profiles_are_a_list(processes, tmp_path):
    profiles = sorted((BUNDLE / "configs" / "profiles").glob("*.json"))[:2]
    train_and_evaluate(BUNDLE, profiles, tmp_path, {}, SEAT)
    assert value(processes.commands[0], "args_file") == str([str(path) for path in profiles])


def test_a_failed_training_says_why_and_goes_on_next_time(processes, tmp_path):
    processes.fail_at = 0
    with pytest.raises(RuntimeError, match=r"train.log ended with exit code 1: error: the disk is full"):
        train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)
    assert len(processes.commands) == 1
    train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)
    assert value(processes.commands[1], "resume_ckpt") == str(tmp_path / "last_checkpoint.pt")
    assert "--overwrite" not in processes.commands[1]


def test_a_failed_evaluation_does_not_train_again(processes, tmp_path):
    processes.fail_at = 1
    with pytest.raises(RuntimeError, match=r"evaluate\.log ended"):
        train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)
    train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)
    assert [is_evaluation(command) for command in processes.commands] == [False, True, True]


@pytest.mark.parametrize(
    "state",
    [
        {"trainer": {"epoch_length": 5, "max_epochs": 4, "iteration": 20}},
        {"trainer": {"epoch_length": 5, "max_epochs": 4, "iteration": 10}, ENDED: True},
    ],
)
def test_a_training_that_ended_after_its_caller_was_killed_is_not_resumed(processes, tmp_path, state):
    processes.fail_at = 0
    with pytest.raises(RuntimeError):
        train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)
    torch.save(state, tmp_path / "last_checkpoint.pt")
    (tmp_path / "model.pt").touch()
    train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)
    assert [is_evaluation(command) for command in processes.commands] == [False, True]


def test_a_training_has_ended_only_after_its_last_step(tmp_path):
    torch.save({"trainer": {"epoch_length": 5, "max_epochs": 4, "iteration": 19}}, tmp_path / "last.pt")
    assert not has_ended(tmp_path / "last.pt")


def test_what_is_complete_is_left_alone_and_another_request_refused(processes, tmp_path):
    profile = tmp_path / "mine.json"
    profile.write_text('{"seed": 1}')
    work = tmp_path / "work"
    train_and_evaluate(BUNDLE, [profile], work, {"fold": 0}, SEAT)
    train_and_evaluate(BUNDLE, [profile], work, {"fold": 0}, Seat(threads=2))
    assert len(processes.commands) == 2
    for profiles, overrides, masks, what in (
        ([profile], {"fold": 1}, False, "overrides"),
        ([], {"fold": 0}, False, "profiles"),
        ([profile], {"fold": 0}, True, "masks"),
    ):
        with pytest.raises(ValueError, match=rf"holds a run of another request, \S+request.json has other {what};"):
            train_and_evaluate(BUNDLE, profiles, work, overrides, SEAT, masks)
    profile.write_text('{"seed": 2}')
    with pytest.raises(ValueError, match=r"has other profiles; give another folder, or delete this one"):
        train_and_evaluate(BUNDLE, [profile], work, {"fold": 0}, SEAT)
    profile.write_text('{"seed": 1, "cache_rate": 0.5, "num_workers": 0, "device": "cpu"}')  # which decide nothing
    train_and_evaluate(BUNDLE, [profile], work, {"fold": 0, "cache_rate": 0.1}, SEAT)
    assert len(processes.commands) == 2
    profile.write_text('{"seed": 2}')
    forget(work)
    train_and_evaluate(BUNDLE, [profile], work, {"fold": 0}, SEAT)
    assert len(processes.commands) == 4


@pytest.mark.parametrize("name", ["model.pt", "last_checkpoint.pt"])
def test_a_training_that_it_has_not_begun_is_not_replaced(processes, tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"holds {name} of another training; give another folder, or delete this one"):
        train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_training_without_validation_is_refused(processes, tmp_path):
    processes.weights = False
    with pytest.raises(RuntimeError, match=r"the training wrote no \S+model.pt; set val_interval"):
        train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)


def test_it_waits_for_a_process_that_outlived_its_caller(processes, tmp_path, monkeypatch, caplog):
    """What inherits the open file holds the lock, though whoever opened it has closed it."""
    monkeypatch.setattr(run, "PAUSE", 0.01)
    descriptor = os.open(tmp_path / run.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    code = "import sys, time; time.sleep(0.5); open(sys.argv[1], 'w').close()"
    orphan = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "done")], pass_fds=(descriptor,))
    os.close(descriptor)
    train_and_evaluate(BUNDLE, [], tmp_path, {}, SEAT)
    assert (tmp_path / "done").is_file()
    assert orphan.wait() == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"another process still trains or evaluates in {tmp_path}; waiting for its end"
    ]


def test_the_request_says_all_that_decides_the_result(processes, tmp_path):
    train_and_evaluate(BUNDLE, [], tmp_path, {"dataset_dir": tmp_path}, SEAT)
    request = json.loads((tmp_path / "request.json").read_text())
    assert request["overrides"] == {"dataset_dir": str(tmp_path)}
    assert request["bundle"] == BUNDLE.name
    assert {"train.json", "evaluate.json"} <= request["configs"].keys()
    assert "device" not in json.dumps(request)
