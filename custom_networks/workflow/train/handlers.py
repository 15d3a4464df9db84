"""Handlers of the training loop: reproducible epochs, a stop at NaN, progress and curve."""

from __future__ import annotations

import csv
import logging
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.data.utils import set_rnd
from monai.engines import Evaluator

from custom_networks.files import replacing

logger = logging.getLogger(__name__)


def _loss(output: object) -> float:
    """Return the loss of a MONAI trainer's output (one dictionary, or one per sample)."""
    first = output[0] if isinstance(output, Sequence) else output
    return float(first["loss"])  # type: ignore[index]


class ReseedHandler:
    """Seed every source of randomness with ``seed + epoch`` when an epoch starts.

    An epoch then depends on its number and the weights only, so a resumed training equals an uninterrupted one without
    any random state in the checkpoint. Processes of a distributed training get different seeds.

    Args:
        seed: first seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer.

        Args:
            engine: a MONAI trainer.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed torch, numpy, random and the random transforms.

        Args:
            engine: the trainer whose epoch starts.
        """
        seed = (self.seed + engine.state.epoch + 100_003 * idist.get_rank()) % 2**32
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - third-party transforms draw from the legacy generator
        torch.manual_seed(seed)
        loader = engine.data_loader  # type: ignore[attr-defined]
        set_rnd(loader.dataset, seed)
        if hasattr(loader.sampler, "set_epoch"):  # MONAI's engine knows the sampler of distributed training alone
            loader.sampler.set_epoch(engine.state.epoch)


class NonFiniteLossHandler:
    """Stop the training with an error at the first loss that is NaN or infinite."""

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer.

        Args:
            engine: a MONAI trainer.
        """
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Look at the loss.

        Args:
            engine: the trainer whose iteration has ended.

        Raises:
            ValueError: if the loss is not finite.
        """
        loss = _loss(engine.state.output)
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} in epoch {engine.state.epoch}, iteration {engine.state.iteration}; set "
                "amp to false and resume from last_checkpoint.pt, or start anew with a lower learning_rate, since a "
                "training that is resumed keeps its own"
            )


class LastEpochValidation:
    """Validate after the last epoch, if the regular validation has not just done so.

    Without it a training whose ``epochs`` is no multiple of ``val_interval`` never looks at its final weights, and one
    with fewer epochs than that ends without any ``model.pt``.

    Args:
        validator: the MONAI evaluator of the validation.
    """

    def __init__(self, validator: Evaluator) -> None:
        self.validator = validator

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer, after the regular validation.

        Args:
            engine: a MONAI trainer.
        """
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Validate if this was the last epoch.

        Args:
            engine: the trainer whose epoch has ended.
        """
        if engine.state.epoch == engine.state.max_epochs and self.validator.state.epoch != engine.state.epoch:
            self.validator.run(engine.state.epoch)


class TrainingProgress:
    """Show a progress bar with loss and remaining time, and write the training curve as CSV.

    The columns are the epoch, the mean loss of its iterations, the learning rate after it, its wall time in seconds
    with its validation, and, in the epochs that were validated, the evaluator's key metric. A resumed training goes on
    after the last epoch it knows: rows that it repeats are replaced.

    Args:
        evaluator: the MONAI evaluator of the validation, run by a handler that was attached before.
        path: the CSV file to write.
    """

    def __init__(self, evaluator: Engine, path: str | Path) -> None:
        self.evaluator = evaluator
        self.path = Path(path)
        self.losses: list[float] = []
        self.started = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer.

        Args:
            engine: a MONAI trainer.
        """
        if idist.get_rank() > 0:
            return
        bar = ProgressBar(persist=True, desc="training")
        bar.attach(
            engine,
            output_transform=lambda _: {"loss": sum(self.losses) / max(1, len(self.losses))},
            event_name=Events.EPOCH_COMPLETED,
            closing_event_name=Events.COMPLETED,
        )
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.losses.append(_loss(e.state.output)))
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the row of this epoch after those of the earlier ones.

        Args:
            engine: the trainer whose epoch has ended.
        """
        validated = self.evaluator.state.epoch == engine.state.epoch
        key = self.evaluator.state.key_metric_name  # type: ignore[attr-defined]
        metric = self.evaluator.state.metrics[key] if validated else math.nan
        loss = sum(self.losses) / len(self.losses)
        rate = engine.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
        seconds = time.monotonic() - self.started
        row = [
            str(engine.state.epoch),
            f"{loss:.6f}",
            f"{rate:.6g}",
            f"{seconds:.1f}",
            f"{metric:.6f}" if validated else "",
        ]
        self._write([*self._rows_before(engine.state.epoch), row])
        if validated:
            logger.info("epoch %d: loss %.4f, validation metric %.4f", engine.state.epoch, loss, metric)

    def _start(self, engine: Engine) -> None:
        """Forget the last epoch."""
        self.losses.clear()
        self.started = time.monotonic()

    def _rows_before(self, epoch: int) -> list[list[str]]:
        """Read the rows of earlier epochs; a training that was killed and resumed repeats the later ones."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) < epoch]

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        """Replace the file in one step."""
        with replacing(self.path) as partial, partial.open("w", newline="") as file:
            csv.writer(file).writerows([["epoch", "loss", "learning_rate", "seconds", "validation_metric"], *rows])
