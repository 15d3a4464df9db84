"""What happens to gradients before the optimiser takes them, and whether it has taken any."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import nn
from torch.nn.utils import clip_grad_norm_

from custom_networks.workflow.train.stop import step_in_epoch


def takes_step(engine: Any) -> bool:
    """Return whether the optimiser takes the gradients of this iteration, by the rule of MONAI's trainer.

    With ``accumulation_steps`` n it is every n-th iteration of an epoch, and the last one.

    Args:
        engine: a MONAI trainer.
    """
    number = step_in_epoch(engine)
    return number % getattr(engine, "accumulation_steps", 1) == 0 or number == engine.state.epoch_length


class ClipGradients:
    r"""Scale the gradients of all parameters down where their norm, taken as one vector, is larger than a bound.

    .. math:: g \leftarrow g \min\left(1, \frac{m}{\lVert g \rVert_2}\right)

    With gradient accumulation the gradients of a whole step are clipped, with loss scaling those without the scale.

    Args:
        network: the network.
        max_norm: the bound m; with ``None`` nothing is clipped.

    Cost:
        One pass over the gradients per step, no copy to the host.
    """

    def __init__(self, network: nn.Module, max_norm: float | None = None) -> None:
        self.network = network
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer.

        Args:
            engine: a MONAI trainer.
        """
        if self.max_norm is not None:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Clip the gradients, if the optimiser takes them now.

        Args:
            engine: the trainer whose backward pass has ended.
        """
        if self.max_norm is None or not takes_step(engine):
            return
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        clip_grad_norm_(self.network.parameters(), self.max_norm)


class OptimizerSteps:
    """End a training with an error after an epoch in which the optimiser took no step.

    Loss scaling leaves out the step of gradients that are not finite. Where it leaves out every one, nothing is learned
    while the log goes on.
    """

    def __init__(self) -> None:
        self.steps = 0

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer and to its optimiser.

        Args:
            engine: a MONAI trainer.
        """
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _listen(self, engine: Engine) -> None:
        # a trainer has its optimiser after its handlers
        engine.optimizer.register_step_post_hook(self._count)  # type: ignore[attr-defined]

    def _count(self, *_: Any) -> None:
        self.steps += 1

    def _start(self, engine: Engine) -> None:
        self.steps = 0

    def __call__(self, engine: Engine) -> None:
        """Look whether there was a step.

        Args:
            engine: the trainer whose epoch has ended.

        Raises:
            ValueError: if there was none.
        """
        if self.steps == 0:
            raise ValueError(
                f"the optimiser took no step in epoch {engine.state.epoch}, since no gradients of it were finite; set "
                "amp to false and resume from last_checkpoint.pt, or start anew with a lower learning_rate"
            )
