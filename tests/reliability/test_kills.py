"""A training that is killed at any moment and resumed is the one that nobody has disturbed, bit for bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import torch

from tests.processes import environment
from tests.reliability.kill_trainings import EPOCHS, KILLS, PLACES
from tests.synthetic import ROOT, read_rows

pytestmark = pytest.mark.timeout(1200)


def assert_same(one, other, where):
    """Compare values of any depth, tensors bit by bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where} {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_same(first, second, f"{where} {number}")
    else:
        assert one == other, where


def content(folder):
    """Return all that a training leaves, without the time that it took."""
    kept = {name: torch.load(folder / name, weights_only=True) for name in ("model.pt", "last_checkpoint.pt")}
    curve = [{**row, "seconds": ""} for row in read_rows(folder / "training_curve.csv")]
    texts = {name: json.loads((folder / name).read_text()) for name in ("training_cases.json", "training_data.json")}
    return {**kept, "curve": curve, **texts}


def test_twenty_of_twenty_are_equal(tmp_path):
    words = [sys.executable, "-m", "tests.reliability.kill_trainings", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    moments = json.loads((tmp_path / "moments.json").read_text())
    assert len(moments) == KILLS
    assert {moment["place"] for moment in moments} == set(PLACES)
    assert {moment["signal"] for moment in moments} == {signal.SIGKILL}
    assert sum(0 < moment["epoch"] < EPOCHS for moment in moments) >= KILLS // 2
    straight = content(tmp_path / "straight")
    for moment in moments:
        folder = tmp_path / moment["folder"]
        assert_same(content(folder), straight, str(moment))
        assert not list(folder.glob("*partial*")), moment
        assert (folder / "training.lock").exists() == (moment["epoch"] == EPOCHS), moment
