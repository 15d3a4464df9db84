"""A training has its folder to itself, from the weights that it starts with to its end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch.distributed as dist

from custom_networks.workflow import resume_from, run_training
from custom_networks.workflow.guard import restarts
from custom_networks.workflow.guard.finished_run import LAST
from custom_networks.workflow.guard.lock import LOCK
from custom_networks.workflow.train import training


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Return what happens in a training, each step with the files that lie in its folder."""
    monkeypatch.setattr(restarts, "_STORES", [dist.HashStore()])
    monkeypatch.setattr(training, "PROGRESS", SimpleNamespace(trains=False))
    (tmp_path / LAST).touch()
    return []


def run(folder, steps, resumed=None, start=None):
    def step(name):
        return lambda *_: steps.append((name, sorted(path.name for path in folder.iterdir())))

    checkpoint, trainer = SimpleNamespace(attach=step("attach")), SimpleNamespace(run=step("run"))
    run_training(trainer, checkpoint, folder, resumed, start or step("start"))


def test_the_state_that_is_replaced_goes_after_the_start(tmp_path, steps):
    run(tmp_path, steps)
    assert steps == [("start", [LAST, LOCK]), ("attach", [LOCK]), ("run", [LOCK])]
    assert list(tmp_path.iterdir()) == []
    assert training.PROGRESS.trains


def test_a_state_that_goes_on_stays(tmp_path, steps):
    run(tmp_path, steps, tmp_path / LAST)
    assert steps == [(name, [LAST, LOCK]) for name in ("start", "attach", "run")]


def test_a_training_that_cannot_start_replaces_nothing_and_is_not_resumed(tmp_path, steps):
    def start():
        raise ValueError("no such weights")

    with pytest.raises(ValueError, match="no such weights"):
        run(tmp_path, steps, start=start)
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    assert resume_from(tmp_path, None) is None
    run(tmp_path, steps)
    (tmp_path / LAST).touch()
    assert resume_from(tmp_path, None) == str(tmp_path / LAST)
