"""The end of a training that no longer gets better."""

from __future__ import annotations

import logging

import ignite.distributed as idist
from ignite.engine import Engine, Events

from custom_networks.workflow.train.checkpoint import BestCheckpoint

logger = logging.getLogger(__name__)


class EarlyStop:
    """End a training after so many epochs without a better validation metric.

    What is the best and since when is part of the state of :class:`BestCheckpoint`, so a resumed training ends where an
    uninterrupted one does.

    Args:
        best_checkpoint: what knows the best epoch.
        evaluator: the MONAI evaluator of the validation, run by a handler that was attached before.
        epochs: how many; with ``None`` the training runs to its end.
    """

    def __init__(self, best_checkpoint: BestCheckpoint, evaluator: Engine, epochs: int | None = None) -> None:
        self.best_checkpoint = best_checkpoint
        self.evaluator = evaluator
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer, after the validation.

        Args:
            engine: a MONAI trainer.
        """
        if self.epochs is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """End the training if this epoch was validated and the best one is too long ago.

        Args:
            engine: the trainer whose epoch has ended; what listens to it after this still hears of the epoch.
        """
        epoch, best = engine.state.epoch, self.best_checkpoint.best_epoch
        validated = self.evaluator.state.epoch == epoch
        if validated and self.epochs is not None and epoch - best >= self.epochs and epoch != engine.state.max_epochs:
            if idist.get_rank() == 0:
                logger.info(
                    "early_stop: no epoch after %d was better, so the training ends after epoch %d", best, epoch
                )
            engine.terminate()
