"""The end of a training between two steps, when somebody asks for it, and what it needs to go on from there."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events


def random_state() -> dict[str, Any]:
    """Return the state of every generator, in values that checkpoints are read with safely."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - transforms draw from it
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "python": list(random.getstate()),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore the state of every generator.

    Args:
        state: result of :func:`random_state`.

    Example:
        >>> state, drawn = random_state(), torch.rand(1)
        >>> set_random_state(state)
        >>> bool(torch.rand(1) == drawn)
        True
    """
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def step_in_epoch(engine: Engine) -> int:
    """Return the number of the step in its epoch, from 1.

    Args:
        engine: the trainer.
    """
    return (engine.state.iteration - 1) % (engine.state.epoch_length or 1) + 1


def middle_of_epoch(engine: Engine) -> dict[str, Any]:
    """Return what a training that ends after a step needs beside its objects.

    Args:
        engine: the trainer.
    """
    losses = [float(loss) for loss in getattr(engine.state, "losses", [])]
    return {"steps": step_in_epoch(engine), "losses": losses, **random_state()}


class GoOnInEpoch:
    """Go on after so many steps of the first epoch: their batches are drawn again and left out.

    What seeds an epoch is a function of its number, so the same batches come. Then every generator is put where it was.

    Args:
        middle: result of :func:`middle_of_epoch`.
    """

    def __init__(self, middle: Mapping[str, Any]) -> None:
        self.middle: Mapping[str, Any] | None = middle

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer.

        Args:
            engine: a MONAI trainer whose state is that of the middle.
        """
        engine.add_event_handler(Events.GET_BATCH_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Leave out the batches before the first one.

        Args:
            engine: the trainer that is about to take a batch.
        """
        if self.middle is None:
            return
        middle, self.middle = self.middle, None
        for _ in range(middle["steps"]):
            next(engine._dataloader_iter)
        engine.state.losses = list(middle["losses"])
        set_random_state(middle)
