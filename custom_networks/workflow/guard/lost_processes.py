"""What a run says when a process that it needs has gone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from custom_networks.workflow.guard.interrupts import PROCESSES, PROGRESS, say_saved

# torch's words, which it raises as a RuntimeError
LOADER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal|exited unexpectedly)")
CONNECTION = re.compile(r"gloo|NCCL|TCPStore|Connection (closed|reset) by peer|Broken pipe", re.IGNORECASE)


def lost_process(chain: Iterable[BaseException]) -> str | None:
    """Return a sentence about the process whose end an error is about, or ``None``.

    Args:
        chain: the error and what it came from.
    """
    text = " ".join(str(seen) for seen in chain)
    saved = f"; {say_saved()}" if PROGRESS.trains else ""
    if found := LOADER.search(text):
        return (
            f"the process {found[1]} that loads data was killed or has died, as when the memory is full; set "
            f"num_workers or cache_rate lower, or to 0{saved}"
        )
    if PROCESSES in os.environ and CONNECTION.search(text):
        return (
            f"process {os.environ[PROCESSES]} has lost another one of this run, which has ended; look above for why"
            f"{saved}"
        )
    return None
