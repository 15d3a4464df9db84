"""MultiHeadSelfAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from custom_networks.attention.multi_head_self_attention import MultiHeadSelfAttention
from tests.modules import assert_permutes_voxels, largest_saved, on_tokens, randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle


def reference_map(x: Tensor, state: dict[str, Tensor], num_heads: int) -> Tensor:
    """A_hij = softmax_j(q_hi . k_hj / sqrt d)."""
    q, k = (references.projected(x, state, name, num_heads) for name in ("query", "key"))
    return references.softmax(torch.einsum("bhdi,bhdj->bhij", q, k) / q.shape[2] ** 0.5, -1)


def reference(x: Tensor, state: dict[str, Tensor], num_heads: int) -> Tensor:
    """y_i = W_o concat_h sum_j A_hij v_hj + b_o."""
    v = references.projected(x, state, "value", num_heads)
    heads = torch.einsum("bhij,bhdj->bhdi", reference_map(x, state, num_heads), v)
    return references.pointwise(torch.cat(heads.unbind(1), dim=1), state, "output").reshape(x.shape)


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize(
    ("channels", "kwargs"),
    [(8, {}), (10, {"num_heads": 5}), (6, {"num_heads": 1}), (10, {"num_heads": 4, "head_channels": 3})],
    ids=["default", "five", "one", "width"],
)
def test_equals_the_formula(size, channels, kwargs):
    module = randomised(MultiHeadSelfAttention(len(size), channels, **kwargs))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    num_heads = kwargs.get("num_heads", 4)
    torch.testing.assert_close(module(x), reference(x, module.state_dict(), num_heads), rtol=1e-10, atol=1e-10)
    want = reference_map(x, module.state_dict(), num_heads)
    torch.testing.assert_close(module.attention_map(x), want, rtol=1e-10, atol=1e-10)


def test_permuting_the_voxels_permutes_the_output():
    assert_permutes_voxels(randomised(MultiHeadSelfAttention(3, 8)), 8)


def test_the_map_is_not_stored_in_training():
    module, x = MultiHeadSelfAttention(3, 16), torch.randn(1, 16, 8, 8, 8)
    assert largest_saved(module, x) <= x.numel()


@pytest.mark.parametrize(("channels", "num_heads", "head_channels"), [(16, 4, None), (12, 2, None), (10, 4, 3)])
def test_parameter_count(channels, num_heads, head_channels):
    module = MultiHeadSelfAttention(3, channels, num_heads=num_heads, head_channels=head_channels)
    inner = num_heads * (channels // num_heads if head_channels is None else head_channels)
    want = 3 * (channels + 1) * inner + (inner + 1) * channels
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "heads": ({"in_channels": 10}, "num_heads must divide in_channels 10, got 4; use one of 1, 2, 5, 10"),
    "no-heads": ({"num_heads": 0, "head_channels": 4}, "num_heads and head_channels must be .* got 0 and 4; use"),
    "no-width": ({"head_channels": 0}, "num_heads and head_channels must be at least 1, got 4 and 0; use for example"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadSelfAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    names = {"fc_q": "query", "fc_k": "key", "fc_v": "value", "fc_o": "output"}
    module = MultiHeadSelfAttention(dims, 16, num_heads=4, head_channels=8)

    def renamed(state: dict) -> dict:
        return {names[key[:4]] + key[4:]: value for key, value in state.items()}

    compare_with_oracle(module, oracle("sdpa_self"), renamed, forward=on_tokens(module, dims), lifted=dims == 3)
