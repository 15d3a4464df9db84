"""The processes that a study starts, and how they end with it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path


class Children:
    """The processes that this one has started and waits for, from any of its threads.

    Each has a process group of its own, so that Ctrl-C in a terminal reaches this process alone: it then asks them to
    end, once, which a training does after its step, with all saved.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ending = threading.Event()

    def run(self, command: Sequence[str], environment: Mapping[str, str], log: Path, kept_open: int) -> int:
        """Run a command to its end and return its exit code.

        Args:
            command: the program and its arguments.
            environment: its variables.
            log: file to which what it says is added.
            kept_open: an open file that it inherits, and with it the lock on that.

        Raises:
            KeyboardInterrupt: if this process was asked to end; the command has ended, too.
        """
        with log.open("a", encoding="utf-8") as file, self._lock:
            if self._ending.is_set():
                raise KeyboardInterrupt
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                process_group=0,
                pass_fds=(kept_open,),
            )
            self._running.add(child)
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                code = child.wait()
                break
            except KeyboardInterrupt as error:  # of the main thread, the only one that signals reach
                interrupted = error
                child.send_signal(signal.SIGTERM)
        with self._lock:
            self._running.discard(child)
        if interrupted is not None or self._ending.is_set():
            raise interrupted or KeyboardInterrupt
        return code

    def end(self) -> None:
        """Ask all to end, and start no other until :meth:`begin`; a second time, a training ends at once."""
        with self._lock:
            self._ending.set()
            for child in self._running:
                child.send_signal(signal.SIGTERM)

    def begin(self) -> None:
        """Allow processes again."""
        self._ending.clear()

    def pause(self, seconds: float) -> None:
        """Wait.

        Args:
            seconds: how long.

        Raises:
            KeyboardInterrupt: if this process was asked to end.
        """
        if self._ending.wait(seconds):
            raise KeyboardInterrupt


CHILDREN = Children()
"""Those of this process."""
