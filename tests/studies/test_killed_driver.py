"""Real cross-validations of a tiny data set: killed twice, and side by side, they end in the same table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custom_networks.studies.cross_validation import CrossValidation
from custom_networks.studies.side_by_side import Seat
from tests.processes import environment
from tests.synthetic import ROOT, SEGMENTATION, tiny_training, write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
BUNDLE = SEGMENTATION[0]
FOLDS = [0, 1]


@pytest.fixture(scope="module")
def profile(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    data = write_dataset(folder / "data")
    file = folder / "mine.json"
    file.write_text(json.dumps(tiny_training(BUNDLE, data, folder / "unused", epochs=3)))
    return file


def start(profile, out):
    """Start the command as a shell does."""
    words = ["-m", "custom_networks", "cross_validate", str(profile), "--bundle", str(BUNDLE)]
    words += ["--out", str(out), "--folds", ",".join(map(str, FOLDS))]
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def finish(driver):
    out, err = driver.communicate()
    assert driver.returncode == 0, err[-3000:]
    return out, err


@pytest.fixture(scope="module")
def table(profile) -> bytes:
    """The table of a study that nobody disturbs."""
    out = profile.parent / "straight"
    finish(start(profile, out))
    assert not (profile.parent / "unused").exists()
    return (out / "cross_validation.csv").read_bytes()


def children_of(process: int) -> list[int]:
    """Return the processes that any thread of a process has started."""
    files = Path(f"/proc/{process}/task").glob("*/children")
    return [int(number) for file in files for number in file.read_text().split()]


def kill_when(driver, file):
    """Kill a driver as soon as there is a file, and return the process that it had started."""
    while not file.is_file():
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.01)
    (child,) = children_of(driver.pid)
    driver.kill()
    driver.communicate()
    return child


def test_a_driver_that_is_killed_twice_ends_in_the_same_table(profile, table):
    out = profile.parent / "killed"
    orphan = kill_when(start(profile, out), out / "fold0" / "last_checkpoint.pt")
    os.kill(orphan, 0)  # which goes on without its driver
    child = kill_when(start(profile, out), out / "fold1" / "last_checkpoint.pt")
    os.kill(child, signal.SIGKILL)
    assert not (out / "cross_validation.csv").exists()
    finish(start(profile, out))
    assert (out / "cross_validation.csv").read_bytes() == table
    assert "resumed from" in (out / "fold1" / "train.log").read_text()


def test_two_side_by_side_end_in_the_same_table(profile, table, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = profile.parent / "side_by_side"
    CrossValidation(BUNDLE, profile, out, None).run(FOLDS, [Seat(threads=1)] * 2)
    assert (out / "cross_validation.csv").read_bytes() == table
    begun = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fold ")]
    assert sorted(line.split(":")[0] for line in begun[:2]) == ["fold 0", "fold 1"]  # both before one has ended


def test_ctrl_c_saves_and_the_same_command_goes_on(profile, table):
    out = profile.parent / "stopped"
    driver = start(profile, out)
    while not (out / "fold0" / "training_curve.csv").is_file():
        time.sleep(0.01)
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate()
    assert driver.returncode == 130
    assert err.startswith("stopping: every training saves after its step, the same command goes on; ")
    assert err.endswith("interrupted\n")
    assert "last_checkpoint.pt holds the training up to" in (out / "fold0" / "train.log").read_text()
    finish(start(profile, out))
    assert (out / "cross_validation.csv").read_bytes() == table
