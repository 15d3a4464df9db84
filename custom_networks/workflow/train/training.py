"""The training itself, alone in its folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine

from custom_networks.workflow.guard.errors import on_the_command_line
from custom_networks.workflow.guard.finished_run import LAST
from custom_networks.workflow.guard.interrupts import PROGRESS, asked_to_stop
from custom_networks.workflow.guard.lock import holding
from custom_networks.workflow.guard.restarts import note_begun
from custom_networks.workflow.train.checkpoint import ResumableCheckpoint


def run_training(
    trainer: Engine,
    checkpoint: ResumableCheckpoint,
    ckpt_dir: str | Path,
    resumed: str | Path | None = None,
    start: Callable[[], None] | None = None,
) -> None:
    """Train, with the folder of the weights locked for every other training until this one ends, however it does.

    Args:
        trainer: the MONAI trainer.
        checkpoint: what restores a state and saves one after every epoch.
        ckpt_dir: the knob of that name.
        resumed: what the training goes on from, ``None`` if it is a new one; the state of one that it replaces is
            removed, so that nobody resumes that by mistake.
        start: loads the weights to start from, and may write them as the first candidate.

    Raises:
        ValueError: if another training runs in the folder.
    """
    folder = Path(ckpt_dir)
    PROGRESS.trains = True
    stopping = asked_to_stop() if on_the_command_line() and idist.get_world_size() == 1 else nullcontext()
    with holding(folder), stopping:
        if start is not None:
            start()
        if idist.get_rank() == 0:
            if not resumed:
                (folder / LAST).unlink(missing_ok=True)
            note_begun(folder)
        checkpoint.attach(trainer)
        trainer.run()
