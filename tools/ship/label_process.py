"""Run a server and all that it starts, and end them together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from custom_networks.workflow.guard.interrupts import Terminated

DEADLINE = 10.0
"""Seconds after which what has not ended is killed."""


def run_group(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Run a program in a process group of its own and return its exit code; nothing of the group is left afterwards.

    Ctrl-C, SIGTERM and SIGHUP end the group: SIGTERM to all of it, and after a deadline SIGKILL. A second Ctrl-C does
    not wait for the deadline.

    Args:
        command: the program and its arguments.
        environment: of the program.
        folder: its working directory.

    Raises:
        KeyboardInterrupt: after Ctrl-C; after the other two the subclass ``Terminated``.
    """
    with _as_ctrl_c(signal.SIGTERM, signal.SIGHUP):
        process = subprocess.Popen(command, env=environment, cwd=folder, start_new_session=True)
        try:
            return process.wait()
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, DEADLINE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):  # none is left
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(seconds)


@contextmanager
def _as_ctrl_c(*signals: signal.Signals) -> Iterator[None]:
    """Raise ``Terminated`` at signals, but those that are ignored, as by nohup."""
    if threading.current_thread() is not threading.main_thread():  # no other may
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = {number: handler for number in signals if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
