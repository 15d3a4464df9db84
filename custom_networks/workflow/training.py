"""Handlers of the training loop: reproducible epochs, a stop at NaN, progress and curve."""

from __future__ import annotations

import csv
import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.data.utils import set_rnd

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
        set_rnd(engine.data_loader.dataset, seed)  # type: ignore[attr-defined]


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
                f"the loss became {loss} in epoch {engine.state.epoch}, iteration {engine.state.iteration}; lower "
                "learning_rate or set amp to false, and resume from last_checkpoint.pt"
            )


class TrainingProgress:
    """Show a progress bar with loss and remaining time, and write the training curve as CSV.

    The columns are the epoch, the mean loss of its iterations, the learning rate after it, and, in the epochs that
    were validated, the evaluator's key metric. A resumed training appends.

    Args:
        evaluator: the MONAI evaluator of the validation, run by a handler that was attached before.
        path: the CSV file to write.
    """

    def __init__(self, evaluator: Engine, path: str | Path) -> None:
        self.evaluator = evaluator
        self.path = Path(path)
        self.losses: list[float] = []

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
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self.losses.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.losses.append(_loss(e.state.output)))
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Append one row.

        Args:
            engine: the trainer whose epoch has ended.
        """
        validated = self.evaluator.state.epoch == engine.state.epoch
        metric = self.evaluator.state.metrics[self.evaluator.state.key_metric_name] if validated else math.nan
        loss = sum(self.losses) / len(self.losses)
        rate = engine.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = engine.state.epoch == 1 or not self.path.is_file()
        with self.path.open("w" if new else "a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["epoch", "loss", "learning_rate", "validation_metric"])
            writer.writerow([engine.state.epoch, f"{loss:.6f}", f"{rate:.6g}", f"{metric:.6f}" if validated else ""])
        if validated:
            logger.info("epoch %d: loss %.4f, validation metric %.4f", engine.state.epoch, loss, metric)
