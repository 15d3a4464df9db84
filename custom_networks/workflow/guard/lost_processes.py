"""What a run says when a process that it needs has gone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from custom_networks.failures import on_one_line
from custom_networks.workflow.guard.interrupts import PROCESSES, PROGRESS, say_saved

# torch's words, which it raises as a RuntimeError
LOADER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal|exited unexpectedly)")
CONNECTION = re.compile(r"\bgloo\b|\bNCCL\b|TCPStore|Connection (closed|reset) by peer|Broken pipe", re.IGNORECASE)


def lost_process(chain: Iterable[BaseException]) -> str | None:
    """Return a sentence about the process whose end an error is about, or ``None``.

    Args:
        chain: the error and what it came from.
    """
    texts = [on_one_line(seen) for seen in chain if isinstance(seen, Exception)]
    saved = f"; {say_saved()}" if PROGRESS.trains else ""
    if found := LOADER.search(" ".join(texts)):
        return (
            f"the process {found[1]} that loads data was killed or has died, as when the memory is full; set "
            f"num_workers or cache_rate lower, or to 0{saved}"
        )
    lost = [text for text in texts if CONNECTION.search(text)]
    if PROCESSES in os.environ and lost:
        return (
            f"process {os.environ[PROCESSES]} has lost another one of this run ({lost[-1]}); look above for why that "
            f"has ended{saved}"
        )
    return None
