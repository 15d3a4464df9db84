"""SeparableSelfAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.attention.separable_self_attention import SeparableSelfAttention
from tests.modules import on_tokens, randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle


def reference(x, state):
    """W_o(c relu(W_v x)), c the sum over voxels of softmax_n(W_i x_n) (W_k x_n)."""
    voxels = x.flatten(2)
    scores = references.pointwise(voxels, state, "query").exp()
    context = (scores / scores.sum() * references.pointwise(voxels, state, "key")).sum(2, keepdim=True)
    values = references.pointwise(voxels, state, "value").clamp(min=0)
    return references.pointwise(context * values, state, "out").reshape(x.shape)


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4), (1, 9)], ids=str)
@pytest.mark.parametrize("channels", [1, 10])
def test_equals_the_formula(size, channels):
    module = randomised(SeparableSelfAttention(len(size), channels))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    want = torch.cat([reference(sample, module.state_dict()) for sample in x.split(1)])
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


def test_attention_map_sums_to_one_over_the_voxels():
    module = randomised(SeparableSelfAttention(3, 6))
    x = torch.randn(2, 6, 4, 3, 5, dtype=torch.float64)
    weights = module.attention_map(x)
    assert weights.shape == (2, 1, 4, 3, 5)
    assert weights.min() > 0
    torch.testing.assert_close(weights.sum((1, 2, 3, 4)), torch.ones(2, dtype=torch.float64))
    context = module.key((x * weights).sum((2, 3, 4))).reshape(2, 6, 1, 1, 1)
    torch.testing.assert_close(module(x), module.out(context * module.value(x).relu()))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("channels", [1, 16])
def test_parameter_count(dims, channels):
    module = SeparableSelfAttention(dims, channels)
    assert sum(p.numel() for p in module.parameters()) == 3 * (channels**2 + channels) + channels


def test_bad_arguments():
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 1; reshape"):
        SeparableSelfAttention(1, 16)


@pytest.mark.parametrize("dims", [2, 3])
def test_original_on_tokens_which_lacks_the_activation(oracle, dims):
    module = SeparableSelfAttention(dims, 16)
    module.act = nn.Identity()
    layers = {"fc_i": "query", "fc_k": "key", "fc_v": "value", "fc_o": "out"}

    def names(state: dict) -> dict:
        renamed = {}
        for key, value in state.items():
            layer, name = key.split(".")
            if layer in ("fc_v", "fc_o") and name == "weight":
                value = value.reshape(*value.shape, *(1,) * dims)
            if key != "fc_i.bias":  # it cancels in the softmax
                renamed[f"{layers[layer]}.{name}"] = value
        return renamed

    compare_with_oracle(module, oracle("mobilevitv2"), names, forward=on_tokens(module, dims))
