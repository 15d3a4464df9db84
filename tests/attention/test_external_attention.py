"""ExternalAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch

from custom_networks.attention.external_attention import ExternalAttention
from tests.modules import on_tokens, randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle


def reference(x, state):
    """M_v a, a the softmax over voxels of M_k x, divided by its sum over slots."""
    p = references.pointwise(x.flatten(2), state, "keys").exp()
    p = p / p.sum(2, keepdim=True)
    return references.pointwise(p / p.sum(1, keepdim=True), state, "values").reshape(x.shape)


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4), (1, 9)], ids=str)
@pytest.mark.parametrize(("channels", "memory_size"), [(6, 64), (10, 3), (1, 1)])
def test_equals_the_formula(size, channels, memory_size):
    module = randomised(ExternalAttention(len(size), channels, memory_size=memory_size))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict()), rtol=1e-10, atol=1e-10)


def test_weights_sum_to_one_over_the_slots():
    module = randomised(ExternalAttention(3, 6, memory_size=8))
    x = torch.randn(2, 6, 4, 3, 5, dtype=torch.float64)
    weights = module.attention_map(x)
    assert weights.shape == (2, 8, 4, 3, 5)
    assert weights.min() > 0
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 4, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(module.values(weights), module(x))


def test_a_voxel_that_no_slot_attends_to_is_no_zero_by_zero():
    module = randomised(ExternalAttention(2, 1, memory_size=4)).float()
    with torch.no_grad():
        module.keys.weight.fill_(1.0)
    x = torch.tensor([[[[0.0, 200.0]]]])
    assert torch.softmax(module.keys(x).flatten(2), 2)[..., 0].eq(0).all()  # exp(-200) is zero in float32
    torch.testing.assert_close(module.attention_map(x), torch.full((1, 4, 1, 2), 0.25))


def test_the_output_at_the_start_has_an_ordinary_scale_and_differs_between_voxels():
    y = ExternalAttention(3, 32)(torch.randn(2, 32, 8, 8, 8))
    assert 0.1 < y.std() < 1
    assert y.flatten(2).std(2).mean() > 0.1


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("channels", "memory_size"), [(16, 64), (5, 3)])
def test_parameter_count(dims, channels, memory_size):
    module = ExternalAttention(dims, channels, memory_size=memory_size)
    assert sum(p.numel() for p in module.parameters()) == 2 * channels * memory_size


def test_bad_arguments():
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 1; reshape"):
        ExternalAttention(1, 16)
    with pytest.raises(ValueError, match="memory_size must be at least 1, got 0; use for example 64"):
        ExternalAttention(3, 16, memory_size=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_original_on_tokens(oracle, dims):
    module = ExternalAttention(dims, 16, memory_size=8)

    def names(state: dict) -> dict:
        layers = {"mk.weight": "keys.weight", "mv.weight": "values.weight"}
        return {layers[key]: value.reshape(*value.shape, *(1,) * dims) for key, value in state.items()}

    compare_with_oracle(module, oracle("ea_external"), names, forward=on_tokens(module, dims))
