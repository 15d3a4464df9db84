"""SpatialGroupEnhance against its formula and its own documentation (there is no stored original)."""

from __future__ import annotations

import math

import pytest
import torch

from custom_networks.attention.spatial_group_enhance import SpatialGroupEnhance
from tests.modules import randomised


def formula(x, state, groups):
    """y_i = sigmoid(gamma (c_i - mean c) / sqrt(var c + 1e-5) + beta) x_i, c_i = mean(x) . x_i, group by group."""
    y = torch.empty_like(x)
    width = x.shape[1] // groups
    for b, sample in enumerate(x):
        for g in range(groups):
            part = slice(g * width, (g + 1) * width)
            vectors = sample[part].flatten(1)
            mean = sum(vectors.unbind(1)) / vectors.shape[1]
            c = torch.stack([(mean * vector).sum() for vector in vectors.unbind(1)])
            c = c - c.mean()
            c = c / ((c**2).mean() + 1e-5).sqrt()
            gate = 1 / (1 + torch.exp(-state["weight"][g] * c - state["bias"][g]))
            y[b, part] = sample[part] * gate.reshape(sample.shape[1:])
    return y


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4), (1, 3)], ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(16, 4), (10, 5), (12, 1), (6, 6)])
def test_equals_the_formula(size, channels, groups):
    module = randomised(SpatialGroupEnhance(len(size), channels, groups=groups))
    x = torch.randn(2, channels, *size, dtype=torch.float64) + 0.5
    torch.testing.assert_close(module(x), formula(x, module.state_dict(), groups), rtol=1e-10, atol=1e-10)


def test_starts_as_a_constant_gate():
    x = torch.randn(2, 8, 4, 5, 3)
    torch.testing.assert_close(SpatialGroupEnhance(3, 8)(x), x / (1 + math.exp(-1)))


def test_attention_map_is_the_gate():
    module = randomised(SpatialGroupEnhance(3, 8, groups=2))
    x = torch.randn(2, 8, 4, 5, 3, dtype=torch.float64)
    gate = module.attention_map(x)
    assert gate.shape == (2, 2, 4, 5, 3)
    assert gate.min() > 0 and gate.max() < 1
    torch.testing.assert_close(module(x), gate.repeat_interleave(4, dim=1) * x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_products_do_not_overflow_in_half_precision(dtype):
    x = (torch.randn(1, 8, 6, 5, 7) * 100 + 500).to(dtype)
    module = randomised(SpatialGroupEnhance(3, 8)).to(dtype)
    gate = module.attention_map(x)
    assert gate.dtype == dtype
    torch.testing.assert_close(gate.float(), module.float().attention_map(x.float()), rtol=0, atol=4e-3)


def test_a_constant_input_has_a_finite_gradient():
    """The gradient of the paper's root, without a number under it, is not."""
    module = randomised(SpatialGroupEnhance(3, 8)).train()
    x = torch.full((1, 8, 3, 4, 5), 7.0, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize(("channels", "groups"), [(16, 4), (12, 6)])
def test_parameter_count(channels, groups):
    module = SpatialGroupEnhance(3, channels, groups=groups)
    assert sum(p.numel() for p in module.parameters()) == 2 * groups


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
        ({"in_channels": 10}, "groups must divide in_channels 10, got 4; use one of 1, 2, 5, 10"),
        ({"groups": 0}, "groups must divide in_channels 16, got 0; use one of 1, 2, 4, 8, 16"),
    ],
    ids=["dims", "channels", "zero"],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SpatialGroupEnhance(**{"spatial_dims": 3, "in_channels": 16} | kwargs)
