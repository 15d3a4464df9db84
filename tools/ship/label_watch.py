"""End a process group when the program that started it is gone: ``python label_watch.py SECONDS < PIPE``.

A program that is killed cannot end what it has started, but the pipe whose other end it holds ends with it. This is a
file of its own, of the standard library alone, so that it starts at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

STEP = 0.1
"""Seconds between two looks at whether any of the group is left."""


def watch(seconds: float) -> None:
    """Wait for the end of the standard input, and end the group that it names: SIGTERM, and after a while SIGKILL.

    Args:
        seconds: how long the group may take to end by itself.
    """
    group = sys.stdin.read()
    if not group:  # the program was gone before it had started anything
        return
    with suppress(ProcessLookupError):  # none is left
        os.killpg(int(group), signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(STEP)
            os.killpg(int(group), 0)
        os.killpg(int(group), signal.SIGKILL)


if __name__ == "__main__":
    watch(float(sys.argv[1]))
