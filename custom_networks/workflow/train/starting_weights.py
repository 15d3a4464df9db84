"""The weights that a training starts from are its first candidate, which stays unless an epoch is better."""

from __future__ import annotations

import logging
from pathlib import Path

import ignite.distributed as idist
from monai.engines import Evaluator
from torch import nn

from custom_networks.workflow.train.checkpoint import BestCheckpoint, load_weights

logger = logging.getLogger(__name__)


def start_from(
    network: nn.Module,
    path: str | Path,
    evaluator: Evaluator,
    resumed: str | Path | None = None,
) -> None:
    """Load the weights that a training starts from, and validate them where they are those of a whole network.

    Where a part of the network starts anew, a head of other classes, there is nothing to validate: what a random layer
    scores is chance, so the first epoch that is validated is the first candidate. Channels over which weights were
    spread are no such part. A training that is resumed has the score in its state.

    Args:
        network: the network.
        path: the weights, of which is loaded what fits, see
            :func:`custom_networks.workflow.train.checkpoint.load_weights`.
        evaluator: the validation, whose :class:`custom_networks.workflow.train.checkpoint.BestCheckpoint` takes the
            weights as epoch 0.
        resumed: the state that the training goes on from, if any.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the checkpoint belongs to another network.
    """
    whole = load_weights(network, path, strict=False)
    if whole and not resumed:
        evaluator.run(0)
        name = str(evaluator.state.key_metric_name)
        if idist.get_rank() == 0:
            logger.info("the weights at the start: %s %.4f", name, evaluator.state.metrics[name])


def say_outcome(best_checkpoint: BestCheckpoint, evaluator: Evaluator, metric: str) -> None:
    """Log in one sentence whether a training has found better weights than those it started from.

    Args:
        best_checkpoint: what has kept the best weights.
        evaluator: the validation.
        metric: what its key metric is, in words.
    """
    if idist.get_rank() > 0:
        return
    cases = len(evaluator.data_loader.dataset)
    where = f"on {cases} case{'s'[: cases > 1]}"
    start, best = best_checkpoint.starting_metric, best_checkpoint.best_metric
    if start is None:
        logger.info("trained: %s %.3f %s; a part started anew, nothing is compared", metric, best, where)
    elif best_checkpoint.best_epoch == 0:
        logger.info("kept: no epoch is better than the weights at the start, %s %.3f %s", metric, start, where)
    else:
        logger.info("replaced: %s %.3f to %.3f %s", metric, start, best, where)
