"""A run that is stopped ends with one line: what is saved and how to go on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from custom_networks.workflow.guard import interrupts
from custom_networks.workflow.guard.interrupts import Progress, say_interrupted
from tests.processes import environment

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def progress(monkeypatch, tmp_path) -> Progress:
    own = Progress()
    monkeypatch.setattr(interrupts, "PROGRESS", own)
    monkeypatch.setattr("sys.argv", ["monai/bundle/__main__.py", "run", "--label_names", "['a', 'b']"])
    monkeypatch.delenv("RANK", raising=False)
    return own


def test_nothing_is_written(progress, tmp_path):
    assert say_interrupted() == "interrupted, nothing is written"
    progress.begin(tmp_path / "absent")
    assert say_interrupted() == "interrupted, nothing is written"


def test_files_of_this_run_are_counted(progress, tmp_path):
    (tmp_path / "sub").mkdir()
    progress.begin(tmp_path)
    for name in ("old.nii.gz", "sub/a_seg.nii.gz", ".partial_b.nii.gz"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / "old.nii.gz", (1000, 1000))
    assert say_interrupted() == f"interrupted, 1 file of this run is in {tmp_path}"
    (tmp_path / "c.nii.gz").write_text("")
    assert say_interrupted() == f"interrupted, 2 files of this run are in {tmp_path}"


def test_a_training_says_how_to_resume(progress, monkeypatch):
    progress.trains = True
    assert say_interrupted() == "interrupted before the end of the first epoch; nothing is saved to resume from"
    progress.save(Path("my models/last_checkpoint.pt"), 7)
    head = "interrupted, my models/last_checkpoint.pt holds the training up to epoch 7; resume"
    assert say_interrupted().startswith(f"{head}: ")
    words = ["python", "-m", "monai.bundle", "run", "--label_names", "['a', 'b']", "--resume_ckpt"]
    assert shlex.split(say_interrupted().removeprefix(f"{head}: ")) == [*words, "my models/last_checkpoint.pt"]
    progress.step = "step 3 of 40 of epoch 8"
    assert say_interrupted().startswith(
        "interrupted in step 3 of 40 of epoch 8, an epoch that is done again, my models/"
    )
    progress.save(Path("my models/last_checkpoint.pt"), 7)  # and the epoch is over
    monkeypatch.setenv("RANK", "0")
    assert say_interrupted() == f"{head} by adding --resume_ckpt my models/last_checkpoint.pt to the same command"


@pytest.mark.parametrize(
    ("sent", "rank", "code", "said"),
    [
        (signal.SIGINT, None, 130, "interrupted, nothing is written"),
        (signal.SIGTERM, None, 143, "interrupted, nothing is written"),
        (signal.SIGTERM, "0", 143, "interrupted, nothing is written"),
        (signal.SIGINT, "1", 130, "waiting"),
        (signal.SIGTERM, "1", 143, "process 1 was told to end, as all are when one of them has"),
    ],
)
def test_the_command_line_ends_with_one_line(tmp_path, sent, rank, code, said):
    wait = "$[sys.stderr.write('waiting\\n'), sys.stderr.flush(), __import__('time').sleep(60)]"
    report = {"_target_": "custom_networks.workflow.report_errors"}
    group = f"$torch.distributed.init_process_group('gloo', 'file://{tmp_path}/store', rank=0, world_size=1)"
    first = [report] if rank is None else [report, group]  # which puts torch's own hook around ours
    text = json.dumps({"imports": ["$import sys", "$import torch.distributed"], "initialize": first, "run": [wait]})
    (tmp_path / "wait.json").write_text(text)
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(tmp_path / "wait.json")]
    variables = environment(**({} if rank is None else {"RANK": rank}))
    lines: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not lines or "waiting" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], "the process ended before it was stopped"
        process.send_signal(sent)
        lines += process.stderr.readlines()
    assert process.returncode == code
    assert lines[-1] == f"{said}\n"
    assert "Traceback" not in "".join(lines)
