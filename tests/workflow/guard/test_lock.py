"""The lock of a folder: held by who trains, given back however that ends, taken over from who trains no more."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from custom_networks.workflow.guard import lock
from custom_networks.workflow.guard.lock import LOCK, check_unlocked, holding
from tests.processes import environment

ROOT = Path(__file__).resolve().parents[3]
GONE = 2**22 + 1  # more than any process has
HERE = {"process": GONE, "host": socket.gethostname(), "boot": lock._boot(), "started": "2026-11-01 10:00:00"}
ELSEWHERE = {**HERE, "host": "another", "boot": "other"}


def left(folder, holder):
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(json.dumps(holder))
    return folder


@pytest.fixture
def no_locks(monkeypatch):
    """A file system that knows no locks."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)


def test_it_says_who_trains_and_since_when(tmp_path):
    with holding(tmp_path / "new"):
        told = json.loads((tmp_path / "new" / LOCK).read_text())
        assert (told["process"], told["host"]) == (os.getpid(), socket.gethostname())
        assert told.keys() == HERE.keys()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_given_back_however_the_training_ends(tmp_path, kind):
    with pytest.raises(kind), holding(tmp_path):
        raise kind
    assert not (tmp_path / LOCK).exists()
    with holding(tmp_path):
        assert (tmp_path / LOCK).is_file()


def test_the_process_itself_does_not_train_twice_in_a_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with holding(tmp_path):
        for refuse in (lambda: check_unlocked(tmp_path / "link"), lambda: holding(tmp_path / "link").__enter__()):
            with pytest.raises(ValueError, match=r"is in use: there trains this very process; wait for it, or set"):
                refuse()
        assert (tmp_path / LOCK).is_file()


@pytest.mark.parametrize(
    "holder", [HERE, {**HERE, "boot": "an earlier start"}, {**HERE, "host": "name of a container"}]
)
def test_one_that_was_killed_here_is_followed(tmp_path, caplog, holder):
    if not holder["boot"]:
        pytest.skip("nothing tells the starts of this machine apart")
    check_unlocked(left(tmp_path, holder))
    with caplog.at_level(logging.WARNING), holding(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    [record] = caplog.records
    assert record.getMessage() == (
        f"process {GONE} on {holder['host']}, which began to train in {tmp_path} at 2026-11-01 10:00:00, has ended "
        "without leaving it; this training takes its place"
    )


@pytest.mark.parametrize("content", ["", "{", '{"process": 3}', "[]"])
def test_a_file_that_names_nobody_is_nobodys(tmp_path, content, caplog):
    (tmp_path / LOCK).write_text(content)
    with holding(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not caplog.records


@pytest.mark.parametrize("way", ["look", "take"])
def test_that_of_another_machine_stays(tmp_path, way):
    left(tmp_path, ELSEWHERE)
    before = (tmp_path / LOCK).read_text()
    with pytest.raises(
        ValueError, match=rf"there trains process {GONE} on another, since .*, another machine"
    ) as caught:
        check_unlocked(tmp_path) if way == "look" else holding(tmp_path).__enter__()
    assert f"delete {tmp_path / LOCK}, or set ckpt_dir to another folder" in str(caught.value)
    assert (tmp_path / LOCK).read_text() == before


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_number_of_the_process_decides(tmp_path):
    alive = {**HERE, "process": os.getpid()}
    with pytest.raises(ValueError, match=rf"there trains process {os.getpid()} on "):
        check_unlocked(left(tmp_path, alive))
    for gone in (HERE, {**alive, "boot": "an earlier start"}):
        with holding(left(tmp_path, gone)):
            pass
        assert not (tmp_path / LOCK).exists()


def test_looking_leaves_a_folder_as_it_is(tmp_path):
    check_unlocked(tmp_path / "absent")
    check_unlocked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_another_has_put_in_its_place_stays(tmp_path):
    with holding(tmp_path):
        (tmp_path / LOCK).unlink()
        left(tmp_path, ELSEWHERE)
    assert json.loads((tmp_path / LOCK).read_text()) == ELSEWHERE


SECOND = """
import sys
from pathlib import Path
from custom_networks.workflow.guard.lock import check_unlocked, holding
for attempt in (check_unlocked, lambda folder: holding(folder).__enter__()):
    try:
        attempt(Path(sys.argv[1]))
        print("free")
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
def test_another_process_is_refused(tmp_path):
    words = [sys.executable, "-c", SECOND, str(tmp_path)]

    def ask():
        done = subprocess.run(words, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    with holding(tmp_path):
        answers = ask()
    assert len(answers) == 2
    for answer in answers:
        assert answer.startswith(f"{tmp_path} is in use: there trains process {os.getpid()} on {socket.gethostname()}")
    # the second left nothing when it ended
    assert ask() == ["free", "free"]
