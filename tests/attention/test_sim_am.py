"""SimAm against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import math

import pytest
import torch

from custom_networks.attention.sim_am import SimAm
from tests.references.oracles import compare_with_oracle


def formula(x, energy_lambda):
    """y = sigmoid(1 / e) x with the paper's energy e = 4 (var + lambda) / ((x - mean)^2 + 2 var + 2 lambda)."""
    y = torch.empty_like(x)
    for b, sample in enumerate(x):
        for c, channel in enumerate(sample):
            values = channel.flatten().tolist()
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)
            energy = 4 * (variance + energy_lambda) / ((channel - mean) ** 2 + 2 * variance + 2 * energy_lambda)
            y[b, c] = channel / (1 + torch.exp(-1 / energy))
    return y


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (1, 1, 2), (5, 4), (1, 1)], ids=str)
@pytest.mark.parametrize("energy_lambda", [1e-4, 0.7])
def test_equals_the_formula(size, energy_lambda):
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    module = SimAm(len(size), 5, energy_lambda=energy_lambda)
    torch.testing.assert_close(module(x), formula(x, energy_lambda), rtol=1e-10, atol=1e-10)


def test_attention_map_is_the_gate():
    x = torch.randn(2, 8, 4, 5, 3, dtype=torch.float64)
    gate = SimAm(3, 8).attention_map(x)
    assert gate.shape == x.shape
    assert gate.min() >= 1 / (1 + math.exp(-0.5)) and gate.max() < 1
    torch.testing.assert_close(SimAm(3, 8)(x), gate * x)
    distance = (x - x.mean((2, 3, 4), keepdim=True)).abs().flatten(2)
    assert torch.equal(gate.flatten(2).argsort(2), distance.argsort(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_squares_do_not_overflow_in_half_precision(dtype):
    x = (torch.randn(1, 4, 6, 5, 7) * 500).to(dtype)
    gate = SimAm(3, 4).attention_map(x)
    assert gate.dtype == dtype
    torch.testing.assert_close(gate.float(), SimAm(3, 4).attention_map(x.float()), rtol=0, atol=4e-3)


def test_a_constant_channel_has_a_finite_gradient():
    x = torch.full((1, 2, 3, 4, 5), 7.0, requires_grad=True)
    SimAm(3, 2)(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / (1 + math.exp(-0.5))))


def test_parameter_count():
    assert not SimAm(3, 16).state_dict()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
        ({"energy_lambda": 0.0}, "energy_lambda must be positive, got 0.0; use for example 1e-4"),
    ],
    ids=["dims", "lambda"],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SimAm(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    compare_with_oracle(SimAm(dims, 16), oracle("simam"), lifted=dims == 3)
