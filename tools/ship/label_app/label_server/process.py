"""The process of one bundle: ``python -m label_server.process CONNECTION KIND BUNDLE``, started by the server."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

from fastapi import HTTPException

from label_server.inference import Classification, Head, Segmentation
from label_server.sentences import first_cause, sentence

logger = logging.getLogger(__name__)

KINDS = {"segmentation": Segmentation, "classification": Classification, "head": Head}
IDLE = 1800
"""Seconds without a request after which the process ends, and its memory is free."""


def serve(connection: Connection, kind: str, bundle: str) -> None:
    """Answer requests, one after the other, until none comes for long or the server is gone.

    The first message is the settings of the app, every other one is a request. An answer is ``("done", result)``,
    ``("refused", (status, sentence))``, ``("invalid", sentence)`` or ``("failed", sentence)``.

    Args:
        connection: to the server.
        kind: one of ``KINDS``.
        bundle: the bundle's folder.
    """
    sys.path.insert(0, bundle)
    requests: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    conf, task = requests.get(), None
    while True:
        try:
            request = requests.get(timeout=float(conf.get("idle_seconds", IDLE)))
        except Empty:
            os._exit(0)  # at once: a request that comes while the interpreter tidies up would be lost
        try:
            task = task or KINDS[kind](bundle, conf)
            answer: tuple[str, Any] = ("done", task(request))
        except HTTPException as error:
            answer = ("refused", (error.status_code, error.detail))
        except Exception as error:
            logger.exception("inference")
            answer = ("invalid" if isinstance(first_cause(error), ValueError) else "failed", sentence(error))
        connection.send(answer)


def _receive(connection: Connection, requests: SimpleQueue[Any]) -> None:
    """Take what the server sends, also while the network runs: that it sends no more is how its end is noticed."""
    while True:
        try:
            requests.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] (%(name)s:%(lineno)d) - %(message)s")
    serve(Connection(int(sys.argv[1])), *sys.argv[2:])
