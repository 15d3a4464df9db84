"""Handlers of the training loop: reproducible epochs, the decay of the rate, a stop at NaN, the last validation."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping, Sequence

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.engines import Evaluator
from monai.handlers import LrScheduleHandler
from torch.optim.lr_scheduler import LRScheduler

DIVERGED = "the loss became"
"""What the error of a training begins with whose loss is not finite."""


def loss_of(output: object) -> float:
    """Return the loss of a MONAI trainer's output.

    Args:
        output: one dictionary, or one per sample.
    """
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


class DecayHandler(LrScheduleHandler):
    """Step a schedule after every iteration, also those whose gradients the optimiser has not taken.

    With gradient accumulation, or loss scaling that leaves out its first steps, the schedule is rightly ahead of the
    optimiser, of which torch warns.

    Args:
        lr_scheduler: the schedule, planned over all iterations.
    """

    def __init__(self, lr_scheduler: LRScheduler) -> None:
        super().__init__(lr_scheduler, print_lr=False, epoch_level=False)

    def __call__(self, engine: Engine) -> None:
        """Step.

        Args:
            engine: the trainer whose iteration has ended.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before")
            super().__call__(engine)


class NonFiniteLossHandler:
    """Stop the training with an error at the first loss that is NaN or infinite, and name the cases of that step."""

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
        loss = loss_of(engine.state.output)
        if not math.isfinite(loss):
            raise ValueError(
                f"{DIVERGED} {loss} in epoch {engine.state.epoch}, step {engine.state.iteration}"
                f"{_files_of(engine)}; look at these images and labels, set amp to false and resume from "
                "last_checkpoint.pt, or start anew with a lower learning_rate, since a training that is resumed keeps "
                "its own"
            )


def _files_of(engine: Engine) -> str:
    """Return the image files of the last step in words, nothing where the samples do not tell their cases."""
    batch = engine.state.batch
    samples: Sequence[object] = batch if isinstance(batch, Sequence) else []
    cases = [sample["case"] for sample in samples if isinstance(sample, Mapping) and "case" in sample]
    known = {case["case"]: case["image"] for case in getattr(_dataset_of(engine), "data", ())} if cases else {}
    files = [known.get(case, case) for case in cases]
    first = [str(file[0] if isinstance(file, list | tuple) else file) for file in files]
    return f" ({', '.join(dict.fromkeys(first))})" if first else ""


def _dataset_of(engine: Engine) -> object:
    return getattr(getattr(engine, "data_loader", None), "dataset", None)


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
