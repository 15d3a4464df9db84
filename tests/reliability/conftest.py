"""Trainings in processes of their own, which the tests of this folder disturb."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import environment, flags
from tests.synthetic import ROOT, SEGMENTATION, tiny_training, write_dataset

BUNDLE = SEGMENTATION[0]
MINUTE = 60


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


def command(overrides: dict[str, Any], configs: tuple[str, ...] = ("train",), launcher: tuple[str, ...] = ()) -> list:
    """Return the words of a run."""
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in configs]
    chosen = str(files) if len(files) > 1 else files[0]
    words = ["-m", "monai.bundle", "run", "--config_file", chosen, "--bundle_root", str(BUNDLE)]
    return [sys.executable, *launcher, *words, *flags(overrides)]


def torchrun(*options: str) -> tuple[str, ...]:
    """Return the words that start two processes."""
    return ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *options)


def finish(words: list[str], fails: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    done = subprocess.run(
        words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=4 * MINUTE, **options
    )
    assert (done.returncode != 0) is fails, done.stderr[-3000:]
    return done


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the sentence with which a run ended, which is all that it said of its end."""
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert done.stderr.count("error: ") == 1
    return done.stderr.splitlines()[-1]


def wait_for(found: Callable[[], Any], process: subprocess.Popen[Any], what: str) -> Any:
    """Return what a function finds, as soon as it finds something."""
    deadline = time.monotonic() + 2 * MINUTE
    while not (result := found()):
        assert process.poll() is None, f"the run ended before there was {what}"
        assert time.monotonic() < deadline, f"there was no {what}"
        time.sleep(0.01)
    return result


def epochs_in(folder: Path) -> int:
    """Return how many epochs the curve of a training has."""
    curve = folder / "training_curve.csv"
    return len(curve.read_text().splitlines()) - 1 if curve.is_file() else 0


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a run whose output is ``tmp_path / "log"``; what is left at the end is killed."""
    processes = []

    def call(words: list[str], log: str = "log") -> subprocess.Popen[bytes]:
        with (tmp_path / log).open("w") as file:
            process = subprocess.Popen(
                words, cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        processes.append(process)
        return process

    yield call
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def training(dataset, tmp_path):
    """Return a function that gives the overrides of a training into a folder of the test."""

    def call(name: str = "out", **overrides: Any) -> dict[str, Any]:
        return tiny_training(BUNDLE, dataset, tmp_path / name, **overrides)

    return call
