"""Adan against its authors' trajectories."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from custom_networks.workflow import adan


def follow(parameters: list[Tensor], gradients: list[list[Tensor]], **kwargs: float) -> list[list[Tensor]]:
    """Return the parameters after each step."""
    pytest.importorskip("pytorch_optimizer", reason="the extra adan is not installed")
    moving = [nn.Parameter(p.clone()) for p in parameters]
    optimizer = adan(moving, **kwargs)
    found = []
    for step in gradients:
        for parameter, gradient in zip(moving, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        found.append([p.detach().clone() for p in moving])
    return found


def formula(parameters: list[Tensor], gradients: list[list[Tensor]], lr: float, weight_decay: float) -> list[Tensor]:
    """Return the parameters after the last step: the formula of the docstring, one number at a time."""
    b1, b2, b3 = 0.98, 0.92, 0.99
    last = []
    for i, parameter in enumerate(parameters):
        values = []
        for j, theta in enumerate(parameter.double().flatten().tolist()):
            m = v = n = 0.0
            before = gradients[0][i].flatten()[j].item()
            for t, step in enumerate(gradients, start=1):
                g = step[i].flatten()[j].item()
                d, before = g - before, g
                m, v, n = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * d, b3 * n + (1 - b3) * (g + b2 * d) ** 2
                change = (m / (1 - b1**t) + b2 * v / (1 - b2**t)) / ((n / (1 - b3**t)) ** 0.5 + 1e-8)
                theta = (theta - lr * change) / (1 + lr * weight_decay)
            values.append(theta)
        last.append(torch.tensor(values, dtype=torch.float64).view_as(parameter))
    return last


@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_equals_the_formula(weight_decay):
    parameters = [torch.randn(4, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    gradients = [[torch.randn_like(p) for p in parameters] for _ in range(7)]
    got = follow(parameters, gradients, lr=0.01, weight_decay=weight_decay)[-1]
    for one, other in zip(got, formula(parameters, gradients, 0.01, weight_decay), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["sail_default", "sail_default_single", "sail_wd_prox", "sail_wd_prox_single"])
def test_equals_the_authors_trajectories(oracle, name):
    stored = oracle("adan_trajectories")[name]
    kwargs = {key: value for key, value in stored["kwargs"].items() if key != "foreach"}
    got = follow(stored["params0"], stored["grads"], **kwargs)
    for step, want in zip(got, stored["params"], strict=True):
        torch.testing.assert_close(step, want, rtol=0, atol=2e-7)


def test_differs_from_the_implementation_that_skips_its_first_step(oracle):
    stored = oracle("adan_trajectories")["lucid_default"]
    got = follow(stored["params0"], stored["grads"], **stored["kwargs"])
    apart = [
        max((a - b).abs().max().item() for a, b in zip(*pair, strict=True))
        for pair in zip(got, stored["params"], strict=True)
    ]
    assert [round(d, 3) for d in apart] == [0.01, 0.025, 0.026, 0.027, 0.03, 0.032]


def test_training_goes_on_from_its_state():
    pytest.importorskip("pytorch_optimizer", reason="the extra adan is not installed")
    torch.manual_seed(0)
    start, gradients = torch.randn(6), [torch.randn(6) for _ in range(5)]
    whole, first = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    one, other = adan([whole], lr=0.01), adan([first], lr=0.01)
    for i, gradient in enumerate(gradients):
        if i == 2:
            second = nn.Parameter(first.detach().clone())
            state, other = other.state_dict(), adan([second], lr=0.01)
            other.load_state_dict(state)
            first = second
        whole.grad, first.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
    assert torch.equal(whole, first)


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ValueError, match=r"Adan needs the package pytorch-optimizer.*pip install 'pytorch-optimizer"):
        adan([nn.Parameter(torch.zeros(1))], lr=0.01)
