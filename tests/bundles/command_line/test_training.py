"""Training in processes: killed and resumed, diverging, and on several processes."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch

from custom_networks.workflow.report.training_data import read_training_data
from tests.processes import environment, flags
from tests.synthetic import BUNDLES, KINDS, assert_equal_weights, kind, of_one_per_recipe, read_rows, tiny_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EPOCHS = 12


def iterations(bundle, processes=1):
    """Return the iterations of an epoch."""
    cases = math.ceil(kind(bundle).training_cases / processes)
    return math.ceil(cases / kind(bundle).training["batch_size"])


def command(bundle, overrides, configs=("train",), processes=0):
    files = [str(bundle / "configs" / f"{name}.json") for name in configs]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes else []
    chosen = str(files) if len(files) > 1 else files[0]
    bundle_run = ["-m", "monai.bundle", "run", "--config_file", chosen, "--bundle_root", str(bundle)]
    return [sys.executable, *launcher, *bundle_run, *flags(overrides)]


def finish(arguments, folder):
    result = subprocess.run(arguments, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def start_three_epochs(arguments, folder, curve, **streams):
    """Start a training with a session of its own, and return it after its third epoch."""
    process = subprocess.Popen(arguments, cwd=folder, env=environment(), start_new_session=True, **streams)
    deadline = time.monotonic() + 240
    while not curve.is_file() or len(curve.read_text().splitlines()) < 4:
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline, "the training wrote no three epochs"
        time.sleep(0.01)
    return process


def kill_in_the_middle(arguments, folder, curve):
    """Start a training and kill it with everything it started, some time after its third epoch."""
    process = start_three_epochs(arguments, folder, curve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@of_one_per_recipe
def test_a_killed_training_goes_on_as_if_nothing_had_happened(bundle, dataset, tmp_path):
    """Without and with worker processes in turn, the other way round than in tests/bundles/test_resume.py."""
    num_workers = 2 * ((BUNDLES.index(bundle) + 1) % 2)
    knobs = {"epochs": EPOCHS, "val_interval": 4, "num_workers": num_workers, "network_def#dropout": 0.2}
    knobs["mirror_axes"] = [1]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(command(bundle, tiny_training(bundle, dataset, straight, **knobs)), tmp_path)
    again = tiny_training(bundle, dataset, killed, **knobs)
    kill_in_the_middle(command(bundle, again), tmp_path, killed / "training_curve.csv")
    epoch = torch.load(killed / "last_checkpoint.pt", weights_only=True)["trainer"]["iteration"] // iterations(bundle)
    assert 2 <= epoch < EPOCHS
    finish(command(bundle, {**again, "resume_ckpt": killed / "last_checkpoint.pt"}), tmp_path)
    assert_equal_weights(straight / "last_checkpoint.pt", killed / "last_checkpoint.pt")
    assert_equal_weights(straight / "model.pt", killed / "model.pt")


@of_one_per_recipe
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stopped_training_says_how_to_resume(dataset, bundle, tmp_path, num_workers):
    out = tmp_path / "my out"
    knobs = tiny_training(bundle, dataset, out, epochs=EPOCHS, num_workers=num_workers)
    with (tmp_path / "log").open("w") as log:
        process = start_three_epochs(
            command(bundle, knobs), tmp_path, out / "training_curve.csv", stdout=subprocess.DEVNULL, stderr=log
        )
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    text = (tmp_path / "log").read_text()
    assert "\r" not in text
    assert "Traceback" not in text
    last = text.splitlines()[-1]
    done = torch.load(out / "last_checkpoint.pt", weights_only=True)["trainer"]["iteration"]
    epoch, step = divmod(done, iterations(bundle))
    where = f"step {step} of {iterations(bundle)} of epoch {epoch + 1}" if step else f"epoch {epoch}"
    head = f"interrupted, {out / 'last_checkpoint.pt'} holds the training up to {where}; resume: python "
    assert last.startswith(head), last
    finish([sys.executable, *shlex.split(last.removeprefix(head))], tmp_path)
    assert len((out / "training_curve.csv").read_text().splitlines()) == EPOCHS + 1
    straight = {**knobs, "output_dir": tmp_path / "straight", "ckpt_dir": tmp_path / "straight"}
    finish(command(bundle, straight), tmp_path)
    assert_equal_weights(tmp_path / "straight" / "last_checkpoint.pt", out / "last_checkpoint.pt")


@of_one_per_recipe
def test_a_diverging_training_fails(bundle, dataset, tmp_path):
    overrides = tiny_training(bundle, dataset, tmp_path / "out", learning_rate=1e30)
    result = subprocess.run(
        command(bundle, overrides), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].startswith("error: the loss became ")
    assert not (tmp_path / "out" / "model.pt").exists()


def test_two_processes_train_and_evaluate(bundle, dataset, tmp_path):
    overrides = tiny_training(bundle, dataset, tmp_path / "two", epochs=3)
    finish(command(bundle, overrides, ("train", "multi_gpu_train"), processes=2), tmp_path)
    rows = read_rows(tmp_path / "two" / "training_curve.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    checkpoint = torch.load(tmp_path / "two" / "last_checkpoint.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in checkpoint["model"])
    assert checkpoint["trainer"]["iteration"] == 3 * iterations(bundle, processes=2)
    record = json.loads((tmp_path / "two" / "training_cases.json").read_text())
    assert len(record["training"]) == kind(bundle).training_cases  # of both processes
    if kind(bundle) is KINDS["segmentation"]:
        assert read_training_data(tmp_path / "two" / "model.pt")["cases"] == kind(bundle).training_cases

    trained = {**overrides, "ckpt_dir": tmp_path / "two", "fold": 1}
    names = ("train", "evaluate", "multi_gpu_evaluate")
    finish(command(bundle, {**trained, "output_dir": tmp_path / "by_two"}, names, processes=2), tmp_path)
    finish(command(bundle, {**trained, "output_dir": tmp_path / "by_one"}, names[:2]), tmp_path)
    for name in kind(bundle).reports:
        assert (tmp_path / "by_two" / name).read_text() == (tmp_path / "by_one" / name).read_text()
