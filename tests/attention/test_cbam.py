"""Cbam against its formula and its own documentation (no reference outputs are stored)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.attention.cbam import Cbam
from tests.modules import randomised
from tests.references import layers as references


def formula(x, state):
    """x' = sigmoid(m(mean) + m(max)) x, y = sigmoid(K * [mean x'; max x']) x'."""

    def perceptron(v):
        hidden = torch.einsum("hc,bc->bh", state["channel.0.weight"], v).clamp(min=0)
        return torch.einsum("ch,bh->bc", state["channel.2.weight"], hidden)

    mean = torch.stack([torch.stack([channel.mean() for channel in sample]) for sample in x])
    peak = torch.stack([torch.stack([channel.max() for channel in sample]) for sample in x])
    gate = 1 / (1 + torch.exp(-perceptron(mean) - perceptron(peak)))
    x = torch.einsum("bc,bc...->bc...", gate, x)
    pooled = torch.stack([sum(x.unbind(1)) / x.shape[1], x.max(1).values], dim=1)
    logits = references.convolve(pooled, state["spatial.weight"]) + state["spatial.bias"]
    return x / (1 + torch.exp(-logits))


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize(
    ("channels", "reduction", "kernel_size"), [(16, 4, 3), (10, 3, 7), (6, 16, (1, 3, 5))], ids=str
)
def test_equals_the_formula(size, channels, reduction, kernel_size):
    dims = len(size)
    kernel_size = kernel_size if isinstance(kernel_size, int) else kernel_size[:dims]
    module = randomised(Cbam(dims, channels, reduction=reduction, kernel_size=kernel_size))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), formula(x, module.state_dict()), rtol=1e-10, atol=1e-10)


def test_attention_map_is_the_gate():
    module = randomised(Cbam(3, 8))
    x = torch.randn(2, 8, 4, 5, 3, dtype=torch.float64)
    gate = module.attention_map(x)
    assert gate.shape == x.shape
    assert gate.min() > 0 and gate.max() < 1
    torch.testing.assert_close(module(x), gate * x)


def test_adds_no_input():
    """With both gates near zero the output is; a public version adds its input, which the paper does not."""
    module = randomised(Cbam(3, 8))
    nn.init.constant_(module.spatial.bias, -1000.0)
    assert module(torch.randn(1, 8, 4, 5, 3, dtype=torch.float64)).abs().max() < 1e-100


@pytest.mark.parametrize(
    ("dims", "channels", "reduction", "kernel_size", "want"),
    [(3, 16, 4, 7, 2 * 16 * 4 + 2 * 343 + 1), (2, 16, 1, 7, 2 * 16 * 16 + 2 * 49 + 1), (3, 3, 8, (1, 3, 5), 6 + 31)],
    ids=["3d", "2d", "anisotropic"],
)
def test_parameter_count(dims, channels, reduction, kernel_size, want):
    module = Cbam(dims, channels, reduction=reduction, kernel_size=kernel_size)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "reduction": ({"reduction": -1}, "reduction must be at least 1, got -1; use 1"),
    "kernel-zero": ({"kernel_size": 0}, "kernel_size must be a positive integer or 3 positive integers, got 0"),
    "kernel-even": ({"kernel_size": (1, 2, 3)}, r"kernel_size must be odd .* got \(1, 2, 3\); .* \(1, 3, 3\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Cbam(**{"spatial_dims": 3, "in_channels": 16} | kwargs)
