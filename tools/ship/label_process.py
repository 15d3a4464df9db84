"""Run a server and all that it starts, and end them together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from custom_networks.workflow.guard.interrupts import Terminated

DEADLINE = 10.0
"""Seconds after which what has not ended is killed."""
WATCH = Path(__file__).with_name("label_watch.py")


def run_group(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Run a program in a process group of its own and return its exit code; nothing of the group is left afterwards.

    Ctrl-C, SIGTERM and SIGHUP end the group: SIGTERM to all of it, and after a deadline SIGKILL. A second Ctrl-C does
    not wait for the deadline. If this process is killed, another one, which watches it, does the same.

    Args:
        command: the program and its arguments.
        environment: of the program.
        folder: its working directory.

    Raises:
        KeyboardInterrupt: after Ctrl-C; after the other two the subclass ``Terminated``.
    """
    with _as_ctrl_c(signal.SIGTERM, signal.SIGHUP), _watched() as tell:
        process = subprocess.Popen(command, env=environment, cwd=folder, start_new_session=True)
        try:
            tell(process.pid)
            return process.wait()
        finally:
            _end(process)


@contextmanager
def _watched() -> Iterator[Callable[[int], object]]:
    """Give a function that names the process group to end if this process is killed."""
    # in a session of its own, which no signal to this process's group reaches
    command = [sys.executable, "-I", str(WATCH), str(DEADLINE)]
    end, ours = os.pipe()
    with os.fdopen(end), os.fdopen(ours, "w") as pipe:
        watch = subprocess.Popen(command, stdin=end, start_new_session=True)
        try:
            yield lambda group: print(group, file=pipe, flush=True)
        finally:
            watch.kill()  # before the pipe ends
            watch.wait()


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
