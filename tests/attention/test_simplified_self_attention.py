"""SimplifiedSelfAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from custom_networks.attention.simplified_self_attention import SimplifiedSelfAttention
from tests.modules import assert_permutes_voxels, largest_saved, on_tokens, randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle


def reference_map(x: Tensor, num_heads: int) -> Tensor:
    """A_hij = softmax_j(x_hi . x_hj / sqrt d)."""
    maps = []
    for head in x.flatten(2).chunk(num_heads, dim=1):
        maps.append(references.softmax(torch.einsum("bdi,bdj->bij", head, head) / head.shape[1] ** 0.5, -1))
    return torch.stack(maps, dim=1)


def reference(x: Tensor, state: dict[str, Tensor], num_heads: int) -> Tensor:
    """y_i = W_o concat_h sum_j A_hij x_hj + b_o."""
    maps = reference_map(x, num_heads).unbind(1)
    heads = x.flatten(2).chunk(num_heads, dim=1)
    mean = torch.cat([torch.einsum("bij,bdj->bdi", m, h) for m, h in zip(maps, heads, strict=True)], dim=1)
    return references.pointwise(mean, state, "output").reshape(x.shape)


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize(("channels", "num_heads"), [(8, 4), (10, 5), (6, 1)])
def test_equals_the_formula(size, channels, num_heads):
    module = randomised(SimplifiedSelfAttention(len(size), channels, num_heads=num_heads))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict(), num_heads), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module.attention_map(x), reference_map(x, num_heads), rtol=1e-10, atol=1e-10)


def test_permuting_the_voxels_permutes_the_output():
    assert_permutes_voxels(randomised(SimplifiedSelfAttention(3, 8)), 8)


def test_the_map_is_not_stored_in_training():
    module, x = SimplifiedSelfAttention(3, 16), torch.randn(1, 16, 8, 8, 8, requires_grad=True)
    assert largest_saved(module, x) <= x.numel()


@pytest.mark.parametrize(("channels", "num_heads"), [(16, 4), (12, 2)])
def test_parameter_count(channels, num_heads):
    module = SimplifiedSelfAttention(3, channels, num_heads=num_heads)
    assert sum(p.numel() for p in module.parameters()) == (channels + 1) * channels


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "heads": ({"in_channels": 10}, "num_heads must divide in_channels 10, got 4; use one of 1, 2, 5, 10"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SimplifiedSelfAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    module = SimplifiedSelfAttention(dims, 16, num_heads=4)

    def renamed(state: dict) -> dict:
        return {key.replace("fc_o", "output"): value for key, value in state.items()}

    compare_with_oracle(module, oracle("sdpa_simplified"), renamed, forward=on_tokens(module, dims), lifted=dims == 3)
