"""PolarizedSelfAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch

from custom_networks.attention.polarized_self_attention import PolarizedSelfAttention
from tests.modules import randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle

MODES = ("parallel", "sequential")


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def channel_gate(x, state):
    """sigmoid(LN(W_z sum_n softmax_n(W_q x_n) W_v x_n)), every matrix applied to every voxel."""
    x = x.flatten(2)
    weights = references.softmax(references.pointwise(x, state, "channel_query"), 2)
    values = references.pointwise(x, state, "channel_value")
    z = references.pointwise(torch.einsum("brn,bn->br", values, weights[:, 0]), state, "channel_out")
    z = z - z.mean(1, keepdim=True)
    z = z / ((z**2).mean(1, keepdim=True) + 1e-5).sqrt()
    return sigmoid(z * state["channel_norm.weight"] + state["channel_norm.bias"])


def spatial_gate(x, state):
    """sigmoid(sum_r softmax_r(mean_n U_q x_n) (U_v x_n)_r)."""
    query = references.softmax(references.pointwise(x.flatten(2), state, "spatial_query").mean(2), 1)
    return sigmoid(torch.einsum("br,br...->b...", query, references.pointwise(x, state, "spatial_value")))


def reference(x, state, mode):
    column = (*x.shape[:2], *(1,) * (x.dim() - 2))
    z = x * channel_gate(x, state).reshape(column)
    if mode == "parallel":
        return z + x * spatial_gate(x, state).unsqueeze(1)
    return z * spatial_gate(z, state).unsqueeze(1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4), (1, 9)], ids=str)
@pytest.mark.parametrize(("channels", "reduction"), [(6, 2), (7, 3), (2, 8)])
def test_equals_the_formula(mode, size, channels, reduction):
    module = randomised(PolarizedSelfAttention(len(size), channels, mode=mode, reduction=reduction))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict(), mode), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("mode", "top"), [("parallel", 2), ("sequential", 1)])
def test_attention_map_is_the_factor_of_the_input(mode, top):
    module = randomised(PolarizedSelfAttention(3, 6, mode=mode))
    x = torch.randn(2, 6, 4, 3, 5, dtype=torch.float64)
    factor = module.attention_map(x)
    assert 0 < factor.min() < factor.max() < top
    torch.testing.assert_close(factor * x, module(x))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("channels", "reduction", "r"), [(16, 2, 8), (7, 3, 2), (2, 8, 1)])
def test_parameter_count(dims, mode, channels, reduction, r):
    module = PolarizedSelfAttention(dims, channels, mode=mode, reduction=reduction)
    want = channels + 3 * (channels + 1) * r + (r + 1) * channels + 2 * channels
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "reduction": ({"reduction": 0}, "reduction must be at least 1, got 0; use 1"),
    "mode": ({"mode": "both"}, r"mode must be one of \('parallel', 'sequential'\), got 'both'; use 'parallel'"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PolarizedSelfAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


LAYERS = {
    "ch_wq": "channel_query",
    "ch_wv": "channel_value",
    "ch_wz": "channel_out",
    "ln": "channel_norm",
    "sp_wq": "spatial_query",
    "sp_wv": "spatial_value",
}


@pytest.mark.parametrize("dims", [2, 3])
def test_original_2d_in_parallel(oracle, dims):
    def names(state: dict) -> dict:
        renamed = {}
        for key, value in state.items():
            layer, name = key.split(".")
            if key != "ch_wq.bias":  # it cancels in the softmax
                renamed[f"{LAYERS[layer]}.{name}"] = value.flatten(1) if value.dim() == 4 else value
        return renamed

    compare_with_oracle(PolarizedSelfAttention(dims, 16), oracle("polarized_parallel"), names, lifted=dims == 3)
