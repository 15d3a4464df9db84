"""Schedules of the learning rate that torch does not have."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmUpPolynomialLR(LRScheduler):
    r"""Let the learning rate rise linearly, then decay by a power, over the steps of a training.

    With the first rate :math:`\eta`, :math:`T` steps in all and :math:`W` of them to rise, step :math:`t` = 0, 1, ...
    has

    .. math::
        \eta_t &= \eta\,\frac{t + 1}{W} \quad \mathrm{for} \quad t < W \\
        \eta_t &= \eta \Bigl(\frac{T - t}{T - W}\Bigr)^p \quad \mathrm{for} \quad W \le t \le T

    and what comes after :math:`T` has 0. Without a rise it is torch's ``PolynomialLR``.

    Args:
        optimizer: whose rates are set; each of its groups has its own :math:`\eta`.
        total_iters: steps of the training, :math:`T`.
        warm_up: share of the steps in which the rate rises, from 0 to less than 1; :math:`W` is rounded.
        power: of the decay, :math:`p`.

    Raises:
        ValueError: if ``warm_up`` is not such a share.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> schedule, rates = WarmUpPolynomialLR(optimizer, total_iters=6, warm_up=1 / 3), []
        >>> for step in range(7):
        ...     rates += schedule.get_last_lr()
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]

    References:
        The rise of nnU-Net's trainers of Primus, https://github.com/MIC-DKFZ/nnUNet (Apache-2.0), before the decay of
        all its trainers.
    """

    def __init__(self, optimizer: Optimizer, total_iters: int, warm_up: float = 0.0, power: float = 1.0) -> None:
        if not 0 <= warm_up < 1:
            raise ValueError(f"warm_up must be a share of the steps, from 0 to less than 1, got {warm_up}; use 0.05")
        self.total_iters = total_iters
        self.warm_up_iters = round(warm_up * total_iters)
        self.power = power
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group of the optimiser for the step that comes next."""
        step, rise = self.last_epoch, self.warm_up_iters
        if step < rise:
            factor = (step + 1) / rise
        else:
            factor = (max(0, self.total_iters - step) / max(1, self.total_iters - rise)) ** self.power
        return [rate * factor for rate in self.base_lrs]
