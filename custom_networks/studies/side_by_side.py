"""Tasks side by side, each in a seat: its share of the processors, or a device of its own."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType

from custom_networks.studies.children import CHILDREN
from custom_networks.workflow.guard.interrupts import Terminated
from custom_networks.workflow.guard.processors import cores

STOPPING = b"stopping: every training saves after its step, the same command goes on; once more stops at once\n"
DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class Seat:
    """What one of several tasks may use.

    Args:
        threads: CPU threads, or ``None`` for as many as torch takes.
        device: where its network runs, or ``None`` for what its configuration says.
    """

    threads: int | None = None
    device: str | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that hold a process to its threads."""
        if self.threads is None:
            return {}
        return {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}

    def knobs(self) -> dict[str, str]:
        """Return the overrides that put a training on its device."""
        return {} if self.device is None else {"device": self.device}


def seats(jobs: int = 1, devices: str | None = None) -> list[Seat]:
    """Return the seats of tasks that run side by side.

    Args:
        jobs: their number; with more than one the processors are shared out evenly, at least one thread each.
        devices: in place of a number, a device for each, with commas between them.

    Raises:
        ValueError: if there is no seat, a device has another name, or both are given.

    Example:
        >>> [seat.device for seat in seats(devices="cuda:0,cuda:1")]
        ['cuda:0', 'cuda:1']
    """
    if devices is None:
        if jobs < 1:
            raise ValueError(f"--jobs must be a number from 1, got {jobs}; write for example --jobs 2")
        return [Seat(None if jobs == 1 else max(1, cores() // jobs)) for _ in range(jobs)]
    if jobs != 1:
        raise ValueError(f"--jobs {jobs} and --devices {devices} exclude each other; leave one of them out")
    names = [name.strip() for name in devices.split(",")]
    if wrong := [name for name in names if not DEVICE.fullmatch(name)]:
        raise ValueError(f"--devices must name devices with commas between them, got {wrong[0]!r}; write cuda:0,cuda:1")
    return [Seat(device=name) for name in names]


def run_all(tasks: Mapping[str, Callable[[Seat], None]], places: Sequence[Seat]) -> dict[str, Exception]:
    """Run all tasks, as many side by side as there are seats, in their order.

    One that fails ends no other. Ctrl-C and SIGTERM ask the processes of all (:data:`CHILDREN`) to end, and begin no
    other task; a second time, to end at once.

    Args:
        tasks: what to call with a seat, by name.
        places: the seats.

    Returns:
        The errors of those that failed, by name.

    Raises:
        KeyboardInterrupt: if it was interrupted; everything has ended.
    """
    free: SimpleQueue[Seat] = SimpleQueue()
    for seat in places:
        free.put(seat)
    failed: dict[str, Exception] = {}

    interrupted: list[KeyboardInterrupt] = []

    def run(name: str, task: Callable[[Seat], None]) -> None:
        if interrupted:
            return
        seat = free.get()
        try:
            task(seat)
        except Exception as error:
            failed[name] = error
        finally:
            free.put(seat)

    def stop(number: int, frame: FrameType | None) -> None:
        os.write(2, b"" if interrupted else STOPPING)  # sys.stderr may be in use just now
        interrupted.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        CHILDREN.end()

    CHILDREN.begin()
    with _signals_to(stop), ThreadPoolExecutor(len(places)) as pool:
        for name, task in tasks.items():
            pool.submit(run, name, task)
    CHILDREN.begin()
    if interrupted:
        raise interrupted[0]
    return {name: failed[name] for name in tasks if name in failed}


@contextmanager
def _signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call a function, which, unlike an exception, breaks nothing off."""
    if threading.current_thread() is not threading.main_thread():  # no other may
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
