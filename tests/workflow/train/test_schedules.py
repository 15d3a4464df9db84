"""The learning rate that rises before it decays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim.lr_scheduler import PolynomialLR

from custom_networks.workflow import WarmUpPolynomialLR


def _optimizer(*rates: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.zeros(1)], "lr": rate} for rate in rates or (0.3,)]
    return torch.optim.SGD(groups)


def _rates(schedule, steps: int) -> list[list[float]]:
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr())
        schedule.optimizer.step()
        schedule.step()
    return rates


def test_rates_of_every_step():
    steps, rise, power = 50, 5, 0.9
    found = _rates(WarmUpPolynomialLR(_optimizer(0.3, 0.01), steps, 0.1, power), steps + 3)
    for step, rates in enumerate(found):
        if step < rise:
            factor = (step + 1) / rise
        else:
            factor = (1 - (step - rise) / (steps - rise)) ** power if step < steps else 0.0
        assert rates == pytest.approx([0.3 * factor, 0.01 * factor], abs=1e-12)
    assert max(found) == found[rise - 1] == found[rise] == [0.3, 0.01]


def test_without_a_rise_it_is_the_schedule_of_torch():
    ours = _rates(WarmUpPolynomialLR(_optimizer(), 20, power=0.9), 25)
    theirs = _rates(PolynomialLR(_optimizer(), 20, power=0.9), 25)
    assert torch.tensor(ours).allclose(torch.tensor(theirs), atol=1e-12)


@pytest.mark.parametrize("stop", [2, 4, 17])
def test_goes_on_where_it_was(stop):
    whole = _rates(WarmUpPolynomialLR(_optimizer(), 20, 0.2), 20)
    first = WarmUpPolynomialLR(_optimizer(), 20, 0.2)
    before = _rates(first, stop)
    state = copy.deepcopy((first.state_dict(), first.optimizer.state_dict()))
    second = WarmUpPolynomialLR(_optimizer(), 99, 0.5)
    second.load_state_dict(state[0])
    second.optimizer.load_state_dict(state[1])
    assert before + _rates(second, 20 - stop) == whole
    assert second.total_iters == 20


@pytest.mark.parametrize("warm_up", [-0.1, 1, 5])
def test_no_such_share(warm_up):
    with pytest.raises(ValueError, match="warm_up must be a share of the steps"):
        WarmUpPolynomialLR(_optimizer(), 10, warm_up)
