"""One training at a time in a folder: a file that says who trains there, locked as long as that process lives."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from custom_networks.workflow.guard.first_process import in_first

logger = logging.getLogger(__name__)
LOCK = "training.lock"
BOOT = Path("/proc/sys/kernel/random/boot_id")
MOST_BYTES = 4096
_HELD: set[Path] = set()


@dataclass(frozen=True)
class Holder:
    """Who trains in a folder.

    Args:
        process: the number of the process.
        host: the name of its machine.
        boot: what identifies this start of the machine; empty where nothing does.
        started: when it began, in local time.
    """

    process: int
    host: str
    boot: str
    started: str

    def is_here(self) -> bool:
        """Return whether this is its machine; a container may have another name."""
        return self.host == socket.gethostname() or (self.boot != "" and self.boot == _boot())

    def is_alive(self) -> bool:
        """Return whether a process of this number is here, which has lived since the machine started."""
        if self.boot != _boot():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            return True
        return True


def _boot() -> str:
    return BOOT.read_text().strip() if BOOT.is_file() else ""


def _holder_in(descriptor: int) -> Holder | None:
    """Return whom a lock file names."""
    try:
        return Holder(**json.loads(os.pread(descriptor, MOST_BYTES, 0)))
    except (ValueError, TypeError):  # empty, or cut off
        return None


def _refuse_others(descriptor: int, file: Path) -> Holder | None:
    """Lock a lock file, or refuse it; return whom it names, who trains no more.

    The lock is that of a process, which no process that loads data inherits, and the system gives it back when the
    process ends in any way; over NFS it holds between machines. Where a file system has none, or does not pass it on
    to other machines, the text decides.
    """
    knows_locks = True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = False
    except OSError as error:
        held = error.errno in (errno.EACCES, errno.EAGAIN)
        knows_locks = held
    holder = _holder_in(descriptor)
    who = f"process {holder.process} on {holder.host}, since {holder.started}" if holder else "another process"
    if held or (holder and holder.is_here() and not knows_locks and holder.is_alive()):
        raise ValueError(f"{file.parent} is in use: there trains {who}; wait for it, or set ckpt_dir to another folder")
    if holder and not holder.is_here():
        raise ValueError(
            f"{file.parent} is in use: there trains {who}, another machine, which cannot be asked whether it still "
            f"does; if it does not, delete {file}, or set ckpt_dir to another folder"
        )
    return holder


def _check_own(file: Path) -> None:
    # A process that closes a file gives back its lock, even if it has opened the file twice: it must not look.
    if file in _HELD:
        raise ValueError(
            f"{file.parent} is in use: there trains this very process; wait for it, or set ckpt_dir to another folder"
        )


def check_unlocked(folder: Path) -> None:
    """Refuse a folder in which a training runs.

    Args:
        folder: the folder, which need not exist.

    Raises:
        ValueError: if one does, or may.
    """
    file = folder.resolve() / LOCK
    _check_own(file)
    if not file.is_file():
        return
    descriptor = os.open(file, os.O_RDWR)
    try:
        _refuse_others(descriptor, file)
    finally:
        os.close(descriptor)


def _is(file: Path, descriptor: int) -> bool:
    """Return whether a path still leads to an open file."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _take(file: Path) -> int:
    """Return the open file that is locked for this process."""
    _check_own(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            before = _refuse_others(descriptor, file)
            if _is(file, descriptor):  # not removed by the one who held it, between our two steps
                holder = Holder(os.getpid(), socket.gethostname(), _boot(), time.strftime("%Y-%m-%d %H:%M:%S"))
                text = json.dumps(asdict(holder)).encode()
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, text + b"\n", 0)
                if before:
                    logger.warning(
                        "process %d on %s, which began to train in %s at %s, has ended without leaving it; this "
                        "training takes its place",
                        before.process,
                        before.host,
                        file.parent,
                        before.started,
                    )
                _HELD.add(file)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _give_back(file: Path, descriptor: int) -> None:
    _HELD.discard(file)
    with suppress(OSError):  # the lock ends with the open file in any case
        if _is(file, descriptor):
            file.unlink()
    os.close(descriptor)


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder as long as the context lasts, however it ends.

    Of several processes the first does so for all.

    Args:
        folder: the folder; it is made.

    Raises:
        ValueError: if a training runs in it, or may.
        OSError: if nothing can be written there.
    """
    file = folder.resolve() / LOCK
    taken: list[int] = []
    try:
        in_first(lambda: taken.append(_take(file)))
        yield
    finally:
        for descriptor in taken:
            _give_back(file, descriptor)
