"""A process that is killed, of those that load data or of those of torchrun, ends a training with a sentence."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tests.reliability.conftest import MINUTE, children, command, epochs_in, finish, torchrun, wait_for
from tests.reliability.test_kills import assert_same

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc"),
]
EPOCHS = 12


def test_a_killed_loader_ends_the_training(training, start, tmp_path):
    process = start(command(training(epochs=200, num_workers=1)))
    wait_for(lambda: epochs_in(tmp_path / "out") >= 1, process, "an epoch")
    deadline = time.monotonic() + MINUTE
    while process.poll() is None and time.monotonic() < deadline:
        for loader in children(process.pid):  # one that has done its work is not missed
            with suppress(ProcessLookupError):
                os.kill(loader, signal.SIGKILL)
        time.sleep(0.05)
    assert process.wait(1) == 1
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text
    last = text.splitlines()[-1]
    assert last.startswith("error: the process "), text[-2000:]
    assert "that loads data was killed or has died, as when the memory is full; set num_workers or cache_rate" in last
    assert "last_checkpoint.pt holds the training up to epoch " in last
    assert "; resume: python -m monai.bundle run " in last


def rank(process: int) -> str:
    """Return which of the processes of torchrun one is."""
    with suppress(OSError):
        for entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"RANK="):
                return entry.removeprefix(b"RANK=").decode()
    return ""


def kill_one(process, which: str) -> None:
    """Kill one of the two processes of torchrun."""
    [found] = [child for child in children(process.pid) if rank(child) == which]
    os.kill(found, signal.SIGKILL)


@pytest.mark.parametrize("killed", ["0", "1"])
def test_the_other_process_ends_with_a_sentence(training, start, tmp_path, killed):
    words = command(training(epochs=200), ("train", "multi_gpu_train"), torchrun())
    process = start(words)
    wait_for(lambda: epochs_in(tmp_path / "out") >= 2, process, "two epochs")
    kill_one(process, killed)
    assert process.wait(MINUTE) != 0
    said = [line for line in (tmp_path / "log").read_text().splitlines() if "resume by adding --resume_ckpt" in line]
    assert len(said) == 1, (tmp_path / "log").read_text()[-4000:]
    other = "0" if killed == "1" else "1"
    lost = rf"error: process {other} has lost another one of this run \(.+\); look above for why that has ended; "
    told = "interrupted, " if other == "0" else f"process {other} was told to end, as all are when one of them has; "
    assert re.match(f"{lost}|{told}", said[0].removeprefix(f"[rank{other}]: "))  # which torch writes before
    assert f"{tmp_path / 'out' / 'last_checkpoint.pt'} holds " in said[0]


def test_torchrun_restarts_and_goes_on(training, start, tmp_path):
    """The same command without any resume_ckpt, and what comes out is what an undisturbed training gives."""
    configs = ("train", "multi_gpu_train")
    process = start(command(training(epochs=EPOCHS), configs, torchrun("--max-restarts", "1")))
    wait_for(lambda: epochs_in(tmp_path / "out") >= 3, process, "three epochs")
    kill_one(process, "1")
    assert process.wait(3 * MINUTE) == 0, (tmp_path / "log").read_text()[-4000:]
    assert epochs_in(tmp_path / "out") == EPOCHS
    finish(command(training("straight", epochs=EPOCHS), configs, torchrun()))
    for name in ("model.pt", "last_checkpoint.pt"):
        one, other = (torch.load(tmp_path / folder / name, weights_only=True) for folder in ("out", "straight"))
        assert_same(one, other, name)
    # the epochs before the loss are not trained again
    assert "torchrun has restarted this training, which goes on from " in (tmp_path / "log").read_text()


def test_the_first_process_refuses_for_both(training, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.pt").touch()
    done = finish(command(training(), ("train", "multi_gpu_train"), torchrun("--max-restarts", "1")), fails=True)
    said = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(said) == 2, done.stderr[-3000:]  # once for each start
    refused = f"error: {tmp_path / 'out'} holds model.pt, which this training has not written, and no "
    assert said[0].removeprefix("[rank0]: ").startswith(refused)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.pt"]


def test_two_trainings_into_one_folder(training, start, tmp_path):
    """The second is refused, whatever it may replace; one that was killed leaves a lock that the next takes over."""
    out = tmp_path / "out"
    words = command(training(epochs=200))
    process = start(words)
    wait_for(lambda: epochs_in(out) >= 1, process, "an epoch")
    before = (out / "training.lock").read_text()
    assert f'"process": {process.pid}, "host": "{os.uname().nodename}"' in before
    second = finish([*words, "--overwrite", "True"], fails=True)
    last = second.stderr.splitlines()[-1]
    assert last.startswith(
        f"error: {out} is in use: there trains process {process.pid} on {os.uname().nodename}, since "
    ), second.stderr[-2000:]
    assert last.endswith("; wait for it, or set ckpt_dir to another folder")
    assert "Traceback" not in second.stderr
    assert process.poll() is None
    assert (out / "training.lock").read_text() == before
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "training.lock").is_file()
    resumed = start([*words, "--resume_ckpt", str(out / "last_checkpoint.pt")], "resumed")
    epochs = epochs_in(out)
    wait_for(lambda: epochs_in(out) > epochs, resumed, "another epoch")
    assert f"process {process.pid} on " in (tmp_path / "resumed").read_text()
    resumed.send_signal(signal.SIGTERM)
    assert resumed.wait(MINUTE) == 128 + signal.SIGTERM
    assert not (out / "training.lock").exists()
