"""ShuffleAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import math

import pytest
import torch

from custom_networks.attention.shuffle_attention import ShuffleAttention
from tests.modules import randomised
from tests.references.oracles import compare_with_oracle


def gate_of(channel, state, k, spatial):
    """sigmoid(w1 mean + b1) of a channel, or sigmoid(w2 IN(v) + b2) of each of its voxels."""
    if not spatial:
        score = state["channel_weight"][k] * channel.sum() / channel.numel() + state["channel_bias"][k]
        return (1 / (1 + torch.exp(-score))).expand_as(channel)
    centred = channel - channel.mean()
    normed = centred / ((centred**2).mean() + 1e-5).sqrt() * state["norm.weight"][k] + state["norm.bias"][k]
    return 1 / (1 + torch.exp(-state["spatial_weight"][k] * normed - state["spatial_bias"][k]))


def formula(x, state, groups):
    """Return the output and the gate: within a group the first half has channel gates, the second voxel gates."""
    width = x.shape[1] // groups
    gate = torch.empty_like(x)
    for b, sample in enumerate(x):
        for c, channel in enumerate(sample):
            half, k = divmod(c % width, width // 2)
            gate[b, c] = gate_of(channel, state, k, spatial=half == 1)
    y = torch.empty_like(x)
    for c in range(x.shape[1]):  # the first half of the channels goes to the even places, the second to the odd
        y[:, 2 * c if c < x.shape[1] // 2 else 2 * c - x.shape[1] + 1] = (gate * x)[:, c]
    return y, gate


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 2), (5, 4), (1, 3)], ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(16, 4), (10, 5), (12, 1), (12, 3)])
def test_equals_the_formula(size, channels, groups):
    module = randomised(ShuffleAttention(len(size), channels, groups=groups))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    want, gate = formula(x, module.state_dict(), groups)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module.attention_map(x), gate, rtol=1e-10, atol=1e-10)


def test_starts_as_a_constant_gate():
    x = torch.randn(2, 8, 4, 5, 3)
    torch.testing.assert_close(ShuffleAttention(3, 8)(x)[:, ::2], x[:, :4] / (1 + math.exp(-1)))
    torch.testing.assert_close(ShuffleAttention(3, 8)(x)[:, 1::2], x[:, 4:] / (1 + math.exp(-1)))


def test_one_voxel_trains():
    module = ShuffleAttention(3, 16).train()
    module(torch.randn(1, 16, 1, 1, 1)).sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize(("channels", "groups"), [(16, 4), (16, 1), (12, 6)])
def test_parameter_count(channels, groups):
    module = ShuffleAttention(3, channels, groups=groups)
    assert sum(p.numel() for p in module.parameters()) == 3 * channels // groups


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
        ({"in_channels": 9, "groups": 1}, "in_channels must be even, got 9; use 10"),
        ({"in_channels": 12}, "groups must divide in_channels / 2 = 6, got 4; use one of 1, 2, 3, 6"),
        ({"groups": 0}, "groups must divide in_channels / 2 = 8, got 0; use one of 1, 2, 4, 8"),
    ],
    ids=["dims", "odd", "channels", "zero"],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ShuffleAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    table = {"cweight": "channel_weight", "cbias": "channel_bias", "sweight": "spatial_weight", "sbias": "spatial_bias"}

    def names(state: dict) -> dict:
        return {table[k]: v.reshape(2, 1) for k, v in state.items() if k in table} | {
            k.replace("gn.", "norm."): v for k, v in state.items() if k not in table
        }

    compare_with_oracle(ShuffleAttention(dims, 16, groups=4), oracle("shuffle_g4"), names, lifted=dims == 3)
