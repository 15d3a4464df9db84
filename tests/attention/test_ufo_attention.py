"""UfoAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from custom_networks.attention.ufo_attention import UfoAttention
from tests.modules import assert_permutes_voxels, on_tokens, randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle


def reference(x: Tensor, state: dict[str, Tensor], num_heads: int, eps: float) -> Tensor:
    """y_i = W_o concat_h X(S_h)^T X(q_hi) + b_o, S_h = sum_j k_hj v_hj^T / sqrt N, head by head, column by column."""
    q, k, v = (references.projected(x, state, name, num_heads) for name in ("query", "key", "value"))
    rows = []
    for head, gamma in enumerate(state["gamma"]):
        queries = gamma * q[:, head] / ((q[:, head] ** 2).sum(1, keepdim=True) + eps).sqrt()
        for channel in v[:, head].unbind(1):
            column = torch.einsum("bin,bn->bi", k[:, head], channel) / k.shape[3] ** 0.5
            column = gamma * column / ((column**2).sum(1, keepdim=True) + eps).sqrt()
            rows.append(torch.einsum("bi,bin->bn", column, queries))
    return references.pointwise(torch.stack(rows, dim=1), state, "output").reshape(x.shape)


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize(
    ("channels", "kwargs"),
    [(8, {}), (10, {"num_heads": 5}), (6, {"num_heads": 1, "eps": 0.1}), (10, {"num_heads": 4, "head_channels": 3})],
    ids=["default", "five", "one", "width"],
)
def test_equals_the_formula(size, channels, kwargs):
    module = randomised(UfoAttention(len(size), channels, **kwargs))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    want = reference(x, module.state_dict(), kwargs.get("num_heads", 4), kwargs.get("eps", 1e-6))
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


def test_permuting_the_voxels_permutes_the_output():
    assert_permutes_voxels(randomised(UfoAttention(3, 8)), 8)


def test_the_summary_is_read_by_cosines():
    """Before the output layer no number exceeds gamma squared, however large keys, values and queries are."""
    module = randomised(UfoAttention(3, 8, num_heads=2))
    with torch.no_grad():
        module.gamma.copy_(torch.tensor([0.5, 2.0]))
        module.output.weight.copy_(torch.eye(8))
        module.output.bias.zero_()
    y = module(100 * torch.randn(2, 8, 3, 4, 5, dtype=torch.float64)).abs().flatten(2)
    assert 0.1 < y[:, :4].max() / 0.25 <= 1
    assert 0.1 < y[:, 4:].max() / 4.0 <= 1


def test_an_input_of_zeros_has_ordinary_gradients():
    module = UfoAttention(3, 8)
    for layer in (module.query, module.key, module.value):
        nn.init.zeros_(layer.bias)
    x = torch.zeros(1, 8, 3, 4, 5, requires_grad=True)
    module(x).sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() < 1e3


def test_half_precision_does_not_overflow():
    module, x = UfoAttention(3, 8), torch.full((1, 8, 32, 32, 32), 4.0)
    voxel = x[0, :, 0, 0, 0]
    assert 32**3 * (module.key(voxel) * module.value(voxel)).abs().max() > torch.finfo(torch.float16).max
    with torch.autocast("cpu", dtype=torch.float16):
        half = module(x)
    torch.testing.assert_close(half.float(), module(x), rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("channels", "num_heads", "head_channels"), [(16, 4, None), (12, 2, None), (10, 4, 3)])
def test_parameter_count(channels, num_heads, head_channels):
    module = UfoAttention(3, channels, num_heads=num_heads, head_channels=head_channels)
    inner = num_heads * (channels // num_heads if head_channels is None else head_channels)
    want = 3 * (channels + 1) * inner + (inner + 1) * channels + num_heads
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "heads": ({"in_channels": 10}, "num_heads must divide in_channels 10, got 4; use one of 1, 2, 5, 10"),
    "no-heads": ({"num_heads": 0, "head_channels": 4}, "num_heads and head_channels must be .* got 0 and 4; use"),
    "eps": ({"eps": -1e-6}, "eps must be at least 0, got -1e-06; use for example 1e-6"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        UfoAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


class _RowsOfS(UfoAttention):
    """With the departure of the implementation that the outputs come from: it normalises S row by row."""

    def _normalise(self, a, axis):
        return super()._normalise(a, -1)


@pytest.mark.parametrize("dims", [2, 3])
def test_reference_outputs_of_a_version_that_normalises_rows(oracle, dims):
    names = {"fc_q": "query", "fc_k": "key", "fc_v": "value", "fc_o": "output"}
    module = _RowsOfS(dims, 16, num_heads=4, head_channels=4, eps=0.0)

    def renamed(state: dict) -> dict:
        ours = {names.get(key[:4], key[:4]) + key[4:]: value for key, value in state.items()}
        return {key: value.flatten() if key == "gamma" else value for key, value in ours.items()}

    compare_with_oracle(module, oracle("ufo"), renamed, forward=on_tokens(module, dims), lifted=dims == 3)
