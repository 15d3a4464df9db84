"""The learning rate's decay, iteration by iteration."""

from __future__ import annotations

import warnings

from ignite.engine import Engine
from monai.handlers import LrScheduleHandler
from torch.optim.lr_scheduler import LRScheduler


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
