"""What a training says while it runs: one line per epoch, and the curve."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sized
from datetime import datetime, timedelta
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

from custom_networks.workflow.train.handlers import loss_of
from custom_networks.workflow.train.log.case_scores import CaseScores
from custom_networks.workflow.train.log.curve import DICE, write_row

logger = logging.getLogger(__name__)
FIRST_SECONDS = 60.0
"""Seconds of steps after which the end is foretold, where the first epoch takes longer."""


def format_duration(seconds: float) -> str:
    """Return a time that something takes, in its two largest units.

    Args:
        seconds: the time.

    Example:
        >>> [format_duration(seconds) for seconds in (7.4, 61, 3600, 100000)]
        ['7 s', '1 min 1 s', '1 h 0 min', '1 d 3 h']
    """
    whole = round(seconds)
    for unit, size, part, part_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part_size} {part}"
    return f"{whole} s"


def format_end(now: datetime, seconds: float) -> str:
    """Return when something ends, with the day unless it is today.

    Args:
        now: the present.
        seconds: how long it still takes.

    Example:
        >>> format_end(datetime(2026, 1, 2, 23, 0), 1800), format_end(datetime(2026, 1, 2, 23, 0), 7200)
        ('23:30', '2026-01-03 01:00')
    """
    end = now + timedelta(seconds=seconds)
    return f"{end:%H:%M}" if end.date() == now.date() else f"{end:%Y-%m-%d %H:%M}"


class TrainingProgress:
    """Log one line per epoch, and one per validation, and write the training curve as CSV.

    The line says loss, learning rate, samples per second, the share of the time in which the training waited for data,
    and the time that is left. On a terminal a bar shows the steps of the epoch; a file gets no part of it.

    The columns of the curve are the epoch, the mean loss of its iterations, the learning rate after it, its wall time
    in seconds with its validation, and, in the epochs that were validated, the evaluator's key metric and the Dice of
    every class. A resumed training goes on after the last epoch it knows: rows that it repeats are replaced.

    Args:
        evaluator: the MONAI evaluator of the validation, run by a handler that was attached before.
        path: the CSV file to write.
        val_interval: the knob of that name.
        metric: what the key metric is, in words.
        scores: what keeps the Dice of every class.
    """

    def __init__(
        self,
        evaluator: Engine,
        path: str | Path,
        val_interval: int = 1,
        metric: str = "metric",
        scores: CaseScores | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.path = Path(path)
        self.val_interval = val_interval
        self.metric = metric
        self.scores = scores
        self.steps = self.samples = 0
        self.waited = 0.0
        self.foretold = False
        # when the epoch began, its last step ended, and its first one ended
        self.started = self.stepped = self.warm = 0.0
        # the seconds of the steps of each epoch and of each validation of this run
        self.epochs: list[float] = []
        self.validations: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer.

        Args:
            engine: a MONAI trainer.
        """
        if idist.get_rank() > 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._got_batch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        if sys.stderr.isatty():
            bar = ProgressBar(persist=False, desc="epoch")
            bar.attach(engine, output_transform=lambda _: {"loss": loss_of(engine.state.output)})
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the row of this epoch after those of the earlier ones, and log it.

        Args:
            engine: the trainer whose epoch has ended.
        """
        now, epoch = time.monotonic(), engine.state.epoch
        validated = self.evaluator.state.epoch == epoch
        self.epochs.append(self.stepped - self.started)
        if validated:
            self.validations.append(now - self.stepped)
        key = self.evaluator.state.key_metric_name  # type: ignore[attr-defined]
        metric = self.evaluator.state.metrics[key] if validated else math.nan
        losses = engine.state.losses  # type: ignore[attr-defined]
        loss = sum(losses) / len(losses)
        rate = engine.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
        row = {
            "epoch": str(epoch),
            "loss": f"{loss:.6f}",
            "learning_rate": f"{rate:.6g}",
            "seconds": f"{now - self.started:.1f}",
            "validation_metric": f"{metric:.6f}" if validated else "",
        }
        if validated and self.scores is not None:
            row |= {f"{DICE}{name}": f"{dice:.6f}" for name, dice in self.scores.classes.items() if dice == dice}
        write_row(self.path, row)
        self._say(engine, loss, rate)
        if validated:
            of_classes = f": {self.scores}" if self.scores is not None else ""
            logger.info("validation after epoch %d: %s %.4f%s", epoch, self.metric, metric, of_classes)

    def _say(self, engine: Engine, loss: float, rate: float) -> None:
        """Log the line of an epoch, and after the first one when the training is expected to end."""
        epoch, epochs, seconds = engine.state.epoch, engine.state.max_epochs or 0, self.epochs[-1]
        left = self._left(epoch, epochs)
        logger.info(
            "epoch %d/%d: loss %.4f, learning rate %.3g, %.3g samples/s, %.0f %% waiting for data%s",
            epoch,
            epochs,
            loss,
            rate,
            self.samples * idist.get_world_size() / seconds if seconds else math.inf,
            100 * self.waited / seconds if seconds else 0.0,
            f", {format_duration(left)} left" if epoch < epochs else "",
        )
        if epoch < epochs:
            self._foretell(left)

    def _left(self, epoch: int, epochs: int) -> float:
        """Return the seconds that are left after an epoch; validations count once there has been one."""
        validations = epochs // self.val_interval - epoch // self.val_interval + bool(epochs % self.val_interval)
        one = sum(self.validations) / len(self.validations) if self.validations else 0.0
        return (epochs - epoch) * sum(self.epochs) / len(self.epochs) + validations * one

    def _foretell(self, left: float) -> None:
        if not self.foretold:
            self.foretold = True
            logger.info("expected end: %s, in %s", format_end(datetime.now(), left), format_duration(left))

    def _start(self, engine: Engine) -> None:
        """Forget the last epoch."""
        engine.state.losses = []  # type: ignore[attr-defined]
        self.steps, self.samples, self.waited = 0, 0, 0.0
        self.started = self.stepped = time.monotonic()

    def _got_batch(self, engine: Engine) -> None:
        self.waited += time.monotonic() - self.stepped

    def _step(self, engine: Engine) -> None:
        engine.state.losses.append(loss_of(engine.state.output))  # type: ignore[attr-defined]
        self.steps += 1
        self.samples += len(engine.state.batch) if isinstance(engine.state.batch, Sized) else 1
        self.stepped = time.monotonic()
        if self.steps == 1:
            self.warm = self.stepped  # the first step of an epoch waits for worker processes that start
        elif not self.foretold and self.stepped - self.started > FIRST_SECONDS:
            state = engine.state
            pace = (self.stepped - self.warm) / (self.steps - 1)
            steps = (state.max_epochs or 0) * (state.epoch_length or 0) - state.iteration
            self._foretell(pace * steps)
