"""Eca against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.attention.eca import Eca
from tests.modules import randomised
from tests.references.oracles import compare_with_oracle


def formula(x, kernel):
    """y_c = x_c sigmoid(sum_t w_t mean(x_{c + t - k//2})), zero beyond the first and the last channel."""
    y = torch.empty_like(x)
    for b, sample in enumerate(x):
        means = [channel.sum() / channel.numel() for channel in sample]
        for c, channel in enumerate(sample):
            neighbours = [(t, c + t - len(kernel) // 2) for t in range(len(kernel))]
            score = sum(kernel[t] * means[n] for t, n in neighbours if 0 <= n < len(means))
            y[b, c] = channel / (1 + torch.exp(-score))
    return y


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4), (1, 3)], ids=str)
@pytest.mark.parametrize(("channels", "kernel_size"), [(16, None), (10, 5), (2, 7), (5, 1)])
def test_equals_the_formula(size, channels, kernel_size):
    module = randomised(Eca(len(size), channels, kernel_size=kernel_size))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    want = formula(x, module.conv.weight.detach().flatten())
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("channels", "k"), [(1, 1), (4, 1), (8, 3), (10, 3), (16, 3), (64, 3), (127, 3), (128, 5), (512, 5), (2048, 7)]
)
def test_kernel_follows_the_channels(channels, k):
    """The odd number nearest to (log2 C + 1) / 2, which is the parameter count."""
    assert sum(p.numel() for p in Eca(3, channels).parameters()) == k


def test_attention_map_is_the_gate():
    module = randomised(Eca(3, 8))
    x = torch.randn(2, 8, 4, 5, 3, dtype=torch.float64)
    gate = module.attention_map(x)
    assert gate.shape == (2, 8, 1, 1, 1)
    assert gate.min() > 0 and gate.max() < 1
    torch.testing.assert_close(module(x), gate * x)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
        ({"kernel_size": 4}, "kernel_size must be odd and positive, got 4; use for example 5"),
        ({"kernel_size": -3}, "kernel_size must be odd and positive, got -3; use for example 1"),
    ],
    ids=["dims", "even", "negative"],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Eca(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    """The original's convolution has a bias; the paper's has none."""
    module = Eca(dims, 16, kernel_size=3)
    module.conv = nn.Conv1d(1, 1, 3, padding=1)
    compare_with_oracle(module, oracle("eca_k3"), lifted=dims == 3)
