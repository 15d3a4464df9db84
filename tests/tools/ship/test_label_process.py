"""A program and what it has started end together, as seen from a process that a signal reaches."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.synthetic import ROOT

pytestmark = pytest.mark.slow

RUN = """
import os
import sys
from pathlib import Path

from custom_networks.workflow.guard.interrupts import exit_code
from tools.ship import label_process

label_process.DEADLINE = 0.5
try:
    sys.exit(label_process.run_group(sys.argv[1:], dict(os.environ), Path.cwd()))
except KeyboardInterrupt as error:
    sys.exit(exit_code(error))
"""
LISTEN = """
import signal
import socket
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    time.sleep(600)
"""
START = f"""
import subprocess
import sys

listener = subprocess.Popen([sys.executable, "-c", {LISTEN!r}], stdout=subprocess.PIPE)
print(int(listener.stdout.readline()), flush=True)
"""
BODIES = {"goes on": "listener.wait()", "ends": "sys.exit(3)"}


@pytest.mark.parametrize(
    ("body", "number", "code"),
    [
        ("goes on", signal.SIGTERM, 143),
        ("goes on", signal.SIGHUP, 143),
        ("goes on", signal.SIGINT, 130),
        ("ends", 0, 3),
    ],
)
def test_nothing_is_left(body, number, code):
    program = [sys.executable, "-c", START + BODIES[body]]
    with subprocess.Popen([sys.executable, "-c", RUN, *program], cwd=ROOT, stdout=subprocess.PIPE) as process:
        port = int(process.stdout.readline())
        process.send_signal(number)
        process.communicate(timeout=60)  # all that has its output has ended, and so what watches it
        assert process.returncode == code
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def test_nothing_is_left_by_one_that_is_killed():
    program = [sys.executable, "-c", START + BODIES["goes on"]]
    with subprocess.Popen([sys.executable, "-c", RUN, *program], cwd=ROOT, stdout=subprocess.PIPE) as process:
        port = int(process.stdout.readline())
        process.kill()
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.1)
    raise TimeoutError(port)


def test_what_is_ignored_stays_ignored():
    """As by nohup, under which a server goes on when its terminal is closed."""
    ignoring = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    command = [sys.executable, "-c", ignoring + RUN, sys.executable, "-c", START + BODIES["goes on"]]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        port = int(process.stdout.readline())
        process.send_signal(signal.SIGHUP)
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        process.terminate()
        assert process.wait(60) == 143
