"""Inference in a process for each bundle: a queue before it, and an end to what nobody waits for."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from fastapi import HTTPException

logger = logging.getLogger(__name__)

APP = Path(__file__).parents[1]
QUEUE = 8
STEP = 0.2
"""Seconds between two looks at whether the client is still there."""
ENDING = 5.0
"""Seconds that a process that has closed its connection gets to end by itself."""
GONE: ContextVar[threading.Event | None] = ContextVar("gone", default=None)
"""What says that the client of the request has left; None where no client waits for it."""


class Worker:
    """The process of a bundle, started by a request where there is none.

    It sees the code of this bundle alone, works on one request at a time, and ends when nobody has asked it for long,
    and with the server, however that ends.

    Args:
        bundle: the bundle's folder.
        kind: what the bundle does, see :data:`label_server.process.KINDS`.
        conf: the settings of the app; ``queue_length`` is the number of requests that may wait (8), ``idle_seconds``
            after how many without a request the process ends (1800).
    """

    def __init__(self, bundle: Path, kind: str, conf: Mapping[str, str]) -> None:
        self.bundle, self.kind, self.conf = bundle, kind, dict(conf)
        self.length = int(conf.get("queue_length", QUEUE))
        self.queue: deque[tuple[threading.Event | None, object]] = deque()
        self.changed = threading.Condition()
        self.running: tuple[subprocess.Popen[bytes], Connection] | None = None

    def run(self, request: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the result of a request, when its turn has come.

        Args:
            request: the request.

        Raises:
            HTTPException: 429 if too many wait, 499 if the client has left, 503 if the process was ended, and what the
                process refused.
            ValueError: if the request cannot be met.
            RuntimeError: if it failed.
        """
        gone = GONE.get()
        with self._turn(gone):
            if self.running and self.running[0].poll() is not None:
                self._end(*self.running, patience=0)
            process, connection = self.running or self._start()
            try:
                connection.send(request)
                while not connection.poll(STEP):
                    _leave_if(gone)
                kind, content = connection.recv()
            except HTTPException:
                self._end(process, connection, patience=0)
                raise
            except (EOFError, OSError) as error:
                raise HTTPException(503, self._why(self._end(process, connection, patience=ENDING))) from error
        if kind == "done":
            return content
        _fail(kind, content)

    @contextmanager
    def _turn(self, gone: threading.Event | None) -> Iterator[None]:
        ticket = gone, object()
        with self.changed:
            # The first of them no longer waits. The images of a batch, which no client waits for, keep none out.
            waiting = sum(event is not None for event, _ in islice(self.queue, 1, None))
            if gone is not None and self.queue and waiting >= self.length:
                raise HTTPException(
                    429, f"{self.length} requests are waiting for {self.bundle.name} already; ask again in a minute"
                )
            self.queue.append(ticket)
        try:
            with self.changed:
                while self.queue[0] is not ticket:
                    self.changed.wait(STEP)
                    _leave_if(gone)
            yield
        finally:
            with self.changed:
                self.queue.remove(ticket)
                self.changed.notify_all()

    def _start(self) -> tuple[subprocess.Popen[bytes], Connection]:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "label_server.process", str(theirs.fileno()), self.kind, str(self.bundle)]
        with theirs:
            process = subprocess.Popen(
                command,
                cwd=APP,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )
        threading.Thread(target=_log, args=(self.bundle.name, process), daemon=True).start()
        ours.send(self.conf)
        self.running = process, ours
        logger.info("%s runs in process %d", self.bundle.name, process.pid)
        return self.running

    def _end(self, process: subprocess.Popen[bytes], connection: Connection, patience: float) -> int:
        """End the process, if it does not by itself, and return its exit code."""
        self.running = None
        connection.close()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(patience)
        process.kill()
        return process.wait()

    def _why(self, code: int) -> str:
        name = self.bundle.name
        if code == -signal.SIGKILL:
            return f"the process of {name} was killed, mostly for want of memory; crop the image, or free memory"
        return f"the process of {name} ended with exit code {code}; ask again, or see the log of the server"


def _leave_if(gone: threading.Event | None) -> None:
    if gone is not None and gone.is_set():
        raise HTTPException(499, "the client has left")


def _fail(kind: str, content: Any) -> NoReturn:
    if kind == "refused":
        status, detail = content
        raise HTTPException(status, detail)
    raise ValueError(content) if kind == "invalid" else RuntimeError(content)


def _log(name: str, process: subprocess.Popen[bytes]) -> None:
    """Write what a process says into the log of the server, until it ends."""
    for line in process.stdout or ():
        logger.info("%s: %s", name, line.decode(errors="replace").rstrip())
    process.wait()
