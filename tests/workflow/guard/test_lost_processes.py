"""An error about a process that has gone says which, and what is saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom_networks.workflow.guard import interrupts, lost_processes
from custom_networks.workflow.guard.errors import describe
from custom_networks.workflow.guard.interrupts import Progress

# as torch 2.13 words them
KILLED = "DataLoader worker (pid 4711) is killed by signal: Killed. "
GONE = "DataLoader worker (pid(s) 4711, 4712) exited unexpectedly"
GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:34261"


@pytest.fixture
def progress(monkeypatch):
    own = Progress()
    monkeypatch.setattr(interrupts, "PROGRESS", own)
    monkeypatch.setattr(lost_processes, "PROGRESS", own)
    monkeypatch.delenv("RANK", raising=False)
    return own


@pytest.mark.parametrize(("text", "which"), [(KILLED, "4711"), (GONE, "4711, 4712")])
def test_a_process_that_loads_data(progress, text, which):
    error = RuntimeError("the run failed")
    error.__cause__ = RuntimeError(text)
    said = f"the process {which} that loads data was killed or has died, as when the memory is full; set num_workers"
    assert describe(error) == f"{said} or cache_rate lower, or to 0"
    progress.trains = True
    assert describe(error).endswith("or to 0; nothing is saved to resume from")
    progress.save(Path("out/last_checkpoint.pt"), 3)
    assert "; out/last_checkpoint.pt holds the training up to epoch 3; resume: python -m " in describe(error)


def test_another_process_of_the_training(progress, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # for the log of the first
    assert "look above" not in describe(RuntimeError(GLOO))
    monkeypatch.setenv("RANK", "1")
    progress.trains = True
    lost = f"process 1 has lost another one of this run ({GLOO}); look above for why that has ended; "
    assert describe(RuntimeError(GLOO)) == f"{lost}nothing is saved to resume from"
    # what the first process writes may not be there yet
    progress.save(tmp_path / "last_checkpoint.pt", 1)
    assert describe(RuntimeError(GLOO)) == f"{lost}nothing is saved to resume from"
    (tmp_path / "last_checkpoint.pt").touch()
    resume = f"resume by adding --resume_ckpt {tmp_path / 'last_checkpoint.pt'} to the same command"
    assert (
        describe(RuntimeError(GLOO)) == f"{lost}{tmp_path / 'last_checkpoint.pt'} holds its last whole epoch; {resume}"
    )
