"""A disk that is full while a file is written: the old file stays, nothing half is left, and one sentence says so."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.reliability.conftest import BUNDLE, command, finish, last_line
from tests.synthetic import IMAGES, tiny_knobs, tiny_training

pytestmark = pytest.mark.timeout(900)
SIZE = 4 * 2**20
# what a training writes anew is more than a page; where a result is less, the run ends before it computes
ROOM = {"checkpoint": 4096, "curve": 4096, "metrics": 0, "mask": 0}
ADVICE = (
    "; free some, or write to another place",
    "; free some space, or set ckpt_dir to another folder",
    " cannot be written (no space left on device); set output_dir to a folder that can be",
)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory) -> Path:
    """Return a folder with what a training of two epochs, its evaluation and an inference have left."""
    folder = tmp_path_factory.mktemp("finished")
    finish(command(overrides(dataset, folder, "checkpoint")))
    for task in ("metrics", "mask"):
        finish(command(overrides(dataset, folder, task), CONFIGS[task]))
    return folder


CONFIGS = {"checkpoint": ("train",), "curve": ("train",), "metrics": ("train", "evaluate"), "mask": ("inference",)}
FOLDERS = {"checkpoint": "model", "curve": "model", "metrics": "metrics", "mask": "mask"}
FILES = {
    "checkpoint": ["model.pt", "last_checkpoint.pt"],
    "curve": ["training_curve.csv"],
    "metrics": ["metrics.csv", "metrics.json"],
    "mask": ["case_00_seg.nii.gz"],
}


def overrides(dataset, base, task, **more):
    """Return the overrides of a run that writes the files of a task, and those alone, to its folder under ``base``."""
    places = {"ckpt_dir": str(base / "model"), "output_dir": str(base / FOLDERS[task])}
    if task == "mask":
        image = dataset / IMAGES / "case_00.nii.gz"
        return {**tiny_knobs(BUNDLE), "dataset_dir": str(image), **places, **more}
    return {**tiny_training(BUNDLE, dataset, base / "model", epochs=3), "train#trainer#max_epochs": 2, **places, **more}


@pytest.fixture
def small_disk(tmp_path):
    """Return the folder of a file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system, and not in every container")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, room: int) -> None:
    """Leave some room."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / "filler").write_bytes(bytes(free - room))
    assert os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize == room


def attempt(dataset, base, finished, task, **options):
    """Run a task again, and check that it fails as it should and leaves what was there."""
    more = {}
    if CONFIGS[task] == ("train",):
        # what is not looked at is written elsewhere
        other = "output_dir" if task == "checkpoint" else "ckpt_dir"
        last = (finished if other == "ckpt_dir" else base) / "model" / "last_checkpoint.pt"
        more = {other: str(base.parent / "elsewhere"), "resume_ckpt": str(last), "train#trainer#max_epochs": 3}
    else:
        more = {"ckpt_dir": str(finished / "model")}
    folder = base / FOLDERS[task]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES[task]}
    assert sorted(before) == sorted(FILES[task])
    words = command(overrides(dataset, base, task, **more), CONFIGS[task])
    sentence = last_line(finish(words, fails=True, **options))
    assert any(name in sentence for name in [*FILES[task], f"{folder}: ", f"output_dir {folder} "]), sentence
    assert sentence.startswith("error: "), sentence
    assert sentence.endswith(ADVICE), sentence
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not list(folder.glob(".*")), "something half is left"
    assert not (folder / "training.lock").exists()


@pytest.mark.parametrize("task", FILES)
def test_a_full_disk(dataset, finished, small_disk, task):
    shutil.copytree(finished / FOLDERS[task], small_disk / FOLDERS[task])
    fill(small_disk, ROOM[task])
    attempt(dataset, small_disk, finished, task)


LIMITS = {"checkpoint": 4096, "mask": 64, "metrics": 64}


@pytest.mark.parametrize("task", LIMITS)
def test_a_limit_of_file_sizes(dataset, finished, tmp_path, task):
    """What fails in the same way on every machine: no file of this process may grow beyond some bytes."""
    shutil.copytree(finished / FOLDERS[task], tmp_path / "base" / FOLDERS[task])
    limit = (LIMITS[task], LIMITS[task])
    attempt(
        dataset,
        tmp_path / "base",
        finished,
        task,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
