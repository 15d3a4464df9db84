"""The processes of a study: their output, their exit codes, and how an interruption reaches them."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial

import pytest

from custom_networks.studies import side_by_side
from custom_networks.studies.children import Children
from custom_networks.studies.side_by_side import Seat, run_all

# what a training does: it says that it is there, and saves at the first SIGTERM
SAVES = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("there", flush=True)
time.sleep(60)
"""


@pytest.fixture
def children(monkeypatch):
    own = Children()
    monkeypatch.setattr(side_by_side, "CHILDREN", own)
    return own


@pytest.fixture
def start(children, tmp_path):
    """Return a function that runs Python code to its end."""
    with (tmp_path / "lock").open("w") as kept:

        def call(code, log="log"):
            return children.run([sys.executable, "-c", code], os.environ, tmp_path / log, kept.fileno())

        yield call


def test_what_it_says_is_added_to_its_log(start, tmp_path):
    assert start("print('one')") == 0
    assert start("import sys; print('two', file=sys.stderr); sys.exit(3)") == 3
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_it_is_alone_in_its_process_group_and_inherits_the_lock(start, tmp_path):
    start(f"import os; print(os.getpgrp() == os.getpid(), os.getppid() == {os.getpid()})")
    assert (tmp_path / "log").read_text() == "True True\n"


def interrupt_when(found):
    """Send Ctrl-C to this process as soon as something is so."""

    def wait():
        while not found():
            time.sleep(0.01)
        os.kill(os.getpid(), 2)

    threading.Thread(target=wait, daemon=True).start()


def says(file, text):
    return file.is_file() and text in file.read_text()


def test_an_interruption_lets_every_process_save(start, tmp_path):
    logs = [tmp_path / name for name in ("a", "b")]
    interrupt_when(lambda: all(says(log, "there") for log in logs))
    tasks = {log.name: partial(lambda name, seat: start(SAVES, name), log.name) for log in logs}
    with pytest.raises(KeyboardInterrupt):
        run_all(tasks, [Seat(), Seat()])
    assert [log.read_text() for log in logs] == ["there\nsaved\n"] * 2


def test_so_does_one_of_the_main_thread(start, tmp_path):
    interrupt_when(lambda: says(tmp_path / "log", "there"))
    with pytest.raises(KeyboardInterrupt):
        start(SAVES)
    assert (tmp_path / "log").read_text() == "there\nsaved\n"


def test_none_is_started_after_an_interruption(children, start, tmp_path):
    children.end()
    with pytest.raises(KeyboardInterrupt):
        start("print('one')")
    assert (tmp_path / "log").read_text() == ""
    children.begin()
    assert start("print('one')") == 0
