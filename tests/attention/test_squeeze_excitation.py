"""SqueezeExcitation against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch

from custom_networks.attention.squeeze_excitation import SqueezeExcitation
from tests.modules import randomised
from tests.references.oracles import compare_with_oracle


def formula(x, state):
    """y_c = x_c sigmoid(sum_h W2_ch relu(sum_k W1_hk mean(x_k)))."""
    w1, w2 = state["squeeze.weight"], state["excite.weight"]
    y = torch.empty_like(x)
    for b, sample in enumerate(x):
        means = torch.stack([channel.sum() / channel.numel() for channel in sample])
        hidden = torch.stack([(row * means).sum().clamp(min=0) for row in w1])
        for c, row in enumerate(w2):
            y[b, c] = sample[c] / (1 + torch.exp(-(row * hidden).sum()))
    return y


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4), (1, 3)], ids=str)
@pytest.mark.parametrize(("channels", "reduction"), [(16, 4), (10, 3), (6, 16)])
def test_equals_the_formula(size, channels, reduction):
    module = randomised(SqueezeExcitation(len(size), channels, reduction=reduction))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), formula(x, module.state_dict()), rtol=1e-10, atol=1e-10)


def test_fewer_channels_than_the_reduction_still_gate():
    """The original's hidden width C // r becomes zero there, and its gate a constant 0.5."""
    gate = randomised(SqueezeExcitation(3, 6, reduction=16)).attention_map(torch.randn(4, 6, 3, 4, 5).double())
    assert (gate - 0.5).abs().max() > 1e-3


def test_attention_map_is_the_gate():
    module = randomised(SqueezeExcitation(3, 8))
    x = torch.randn(2, 8, 4, 5, 3, dtype=torch.float64)
    gate = module.attention_map(x)
    assert gate.shape == (2, 8, 1, 1, 1)
    assert gate.min() > 0 and gate.max() < 1
    torch.testing.assert_close(module(x), gate * x)


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(16, 4, 4), (16, 1, 16), (10, 4, 2), (3, 8, 1)])
def test_parameter_count(channels, reduction, hidden):
    module = SqueezeExcitation(3, channels, reduction=reduction)
    assert sum(p.numel() for p in module.parameters()) == 2 * channels * hidden


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
        ({"reduction": 0}, "reduction must be at least 1, got 0; use 1"),
    ],
    ids=["dims", "reduction"],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SqueezeExcitation(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    def names(state: dict) -> dict:
        return {k.replace("fc.0", "squeeze").replace("fc.2", "excite"): v for k, v in state.items()}

    compare_with_oracle(SqueezeExcitation(dims, 16, reduction=4), oracle("se"), names, lifted=dims == 3)
