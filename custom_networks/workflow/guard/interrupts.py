"""What a run has done so far, for the one line with which it ends when somebody stops it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

PROCESSES = "RANK"
"""The variable that torchrun sets for each of its processes."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which a scheduler asks a run to end, treated as Ctrl-C."""


@dataclass
class Progress:
    """What this process has written.

    Args:
        output_dir: where its results go, ``None`` before that is known.
        started: when that was, in seconds since 1970; files that are older are not its own.
        trains: whether it is a training.
        checkpoint: the resumable state, ``None`` if nothing is saved.
        epoch: the last epoch in it.
        step: where a training is, in words.
        inside: the same of the state that is saved, nothing if that is of a whole epoch.
        asked: what has asked it to end after its step.
    """

    output_dir: Path | None = None
    started: float = 0.0
    trains: bool = False
    checkpoint: Path | None = None
    epoch: int = 0
    step: str = ""
    inside: str = ""
    asked: KeyboardInterrupt | None = None

    def begin(self, output_dir: Path) -> None:
        """Remember where results go.

        Args:
            output_dir: the folder.
        """
        self.output_dir, self.started = output_dir, time.time()

    def save(self, checkpoint: Path, epoch: int) -> None:
        """Remember the resumable state.

        Args:
            checkpoint: the file.
            epoch: the last epoch in it.
        """
        self.checkpoint, self.epoch, self.step, self.inside = checkpoint, epoch, "", ""

    def save_step(self, checkpoint: Path) -> None:
        """Remember that the resumable state is that after the present step.

        Args:
            checkpoint: the file.
        """
        self.checkpoint, self.step, self.inside = checkpoint, "", self.step

    def files(self) -> int:
        """Return how many files of this run are in ``output_dir``."""
        if self.output_dir is None or not self.output_dir.is_dir():
            return 0
        paths = [path for path in self.output_dir.rglob("*") if path.is_file() and not path.name.startswith(".")]
        # a file system may keep whole seconds only
        return sum(path.stat().st_mtime >= int(self.started) for path in paths)


PROGRESS = Progress()
"""The progress of this process."""


def say_saved() -> str:
    """Return what is saved of a training, and how to resume it."""
    others = os.environ.get(PROCESSES, "0") != "0"
    # the first process writes the file, perhaps just now
    if PROGRESS.checkpoint is None or (others and not PROGRESS.checkpoint.is_file()):
        return "nothing is saved to resume from"
    if PROCESSES in os.environ:
        resume = f"resume by adding --resume_ckpt {PROGRESS.checkpoint} to the same command"
    else:
        words = ["python", "-m", "monai.bundle", *sys.argv[1:], "--resume_ckpt", str(PROGRESS.checkpoint)]
        resume = f"resume: {shlex.join(words)}"
    what = "its last whole epoch" if others else f"the training up to {PROGRESS.inside or f'epoch {PROGRESS.epoch}'}"
    return f"{PROGRESS.checkpoint} holds {what}; {resume}"


def say_interrupted() -> str:
    """Return what is saved when a run is stopped, and for a training the command that resumes it."""
    if (rank := os.environ.get(PROCESSES, "0")) != "0":
        ended = f"process {rank} was told to end, as all are when one of them has"
        return f"{ended}; {say_saved()}" if PROGRESS.trains else ended
    if PROGRESS.checkpoint is not None:
        again = f" in {PROGRESS.step}, an epoch that is done again" if PROGRESS.step else ""
        return f"interrupted{again}, {say_saved()}"
    if PROGRESS.trains:
        return f"interrupted before the end of the first epoch; {say_saved()}"
    if count := PROGRESS.files():
        files = "1 file of this run is" if count == 1 else f"{count} files of this run are"
        return f"interrupted, {files} in {PROGRESS.output_dir}"
    return "interrupted, nothing is written"


def exit_code(error: BaseException) -> int:
    """Return the exit code that shells give a program which a signal has ended.

    Args:
        error: Ctrl-C, or :class:`Terminated`.

    Example:
        >>> exit_code(KeyboardInterrupt()), exit_code(Terminated())
        (130, 143)
    """
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise :class:`Terminated` at SIGTERM as long as the context lasts, so that what it opens is closed."""
    if threading.current_thread() is not threading.main_thread():  # no other may
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    catch_sigterm()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def asked_to_stop() -> Iterator[None]:
    """As long as the context lasts, let Ctrl-C and SIGTERM ask a training to end after its step, a second one at once.

    Processes that load data for it, which Ctrl-C reaches, too, go on until they are ended.
    """
    if threading.current_thread() is not threading.main_thread():  # no other may
        yield
        return
    owner = os.getpid()

    def ask(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        error = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if PROGRESS.asked is not None or not PROGRESS.step:
            raise error
        PROGRESS.asked = error
        os.write(
            2, b"stopping after this step, or the validation that runs; once more stops at once\n"
        )  # sys.stderr may be in use just now

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def catch_sigterm() -> None:
    """Raise :class:`Terminated` at SIGTERM in this process."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
