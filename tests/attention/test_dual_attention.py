"""DualAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from custom_networks.attention.dual_attention import DualAttention
from tests.modules import largest_saved, randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle


def reference_position(x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """alpha sum_j softmax_j(q_i . k_j) v_j + x_i, and the softmax."""
    q, k, v = (references.pointwise(x.flatten(2), state, name) for name in ("query", "key", "value"))
    weights = references.softmax(torch.einsum("bki,bkj->bij", q, k), -1)
    return state["alpha"] * torch.einsum("bij,bcj->bci", weights, v).reshape(x.shape) + x, weights


def reference_channel(x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """beta sum_d softmax_d(<x_c, x_d>) x_d + x_c, and the softmax."""
    weights = references.softmax(torch.einsum("bcn,bdn->bcd", x.flatten(2), x.flatten(2)), -1)
    return state["beta"] * torch.einsum("bcd,bdn->bcn", weights, x.flatten(2)).reshape(x.shape) + x, weights


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize(("channels", "reduction"), [(8, 8), (10, 1), (6, 2), (4, 8)])
def test_equals_the_formula(size, channels, reduction):
    module = randomised(DualAttention(len(size), channels, reduction=reduction))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    position, weights = reference_position(x, references.below(module.state_dict(), "position"))
    channel, likeness = reference_channel(x, references.below(module.state_dict(), "channel"))
    torch.testing.assert_close(module(x), position + channel, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module.attention_map(x), weights, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module.channel.attention_map(x), likeness, rtol=1e-10, atol=1e-10)


def test_permuting_the_channels_permutes_the_channel_part():
    channel = randomised(DualAttention(3, 8)).channel
    x = 0.1 * torch.randn(2, 8, 3, 4, 5, dtype=torch.float64)
    order = torch.randperm(8)
    torch.testing.assert_close(channel(x[:, order]), channel(x)[:, order])
    assert channel.attention_map(x).std() > 0.01  # neither uniform nor one-hot
    assert channel.attention_map(x).max() < 0.99


def test_alike_channels_attend_to_each_other():
    x = torch.zeros(1, 4, 2, 2, 2)
    x[0, :2, 0], x[0, 2:, 1] = 1.0, 1.0  # two pairs of equal channels, each pair orthogonal to the other
    weights = DualAttention(3, 4).channel.attention_map(x)[0]
    assert (weights[:2, :2] > weights[:2, 2:]).all()
    assert (weights[2:, 2:] > weights[2:, :2]).all()


def test_half_precision_does_not_overflow():
    module, x = DualAttention(3, 8), 2 * torch.randn(1, 8, 32, 32, 32)
    assert x.square().sum() / 8 > torch.finfo(torch.float16).max
    with torch.autocast("cpu", dtype=torch.float16):
        half = module.channel(x)
    torch.testing.assert_close(half.float(), module.channel(x), rtol=0.01, atol=0.01)


def test_the_map_is_not_stored_in_training():
    for reduction in (1, 8):
        module, x = DualAttention(3, 16, reduction=reduction), torch.randn(1, 16, 8, 8, 8)
        assert largest_saved(module, x) <= x.numel()


@pytest.mark.parametrize(("channels", "reduction"), [(16, 8), (12, 1), (4, 8)])
def test_parameter_count(channels, reduction):
    module = DualAttention(3, channels, reduction=reduction)
    want = (2 * channels + 1) * max(1, channels // reduction) + (channels + 1) * channels + 2
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "reduction": ({"reduction": 0}, "reduction must be at least 1, got 0; use 1"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DualAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


class _Scaled(nn.Module):
    """A projection divided by the root of its width."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x) / self.linear.out_features**0.5


class _PublicVersion(nn.Module):
    """Our position part with what a public version has beyond the paper: 3x3 before it, scale, output projection.

    It also lacks the paper's alpha and + x.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.cnn = (nn.Conv2d, nn.Conv3d)[dims - 2](16, 16, (1, 3, 3)[-dims:], padding=(0, 1, 1)[-dims:])
        self.position = DualAttention(dims, 16, reduction=1).position
        self.position.query = _Scaled(self.position.query)
        del self.position.alpha
        self.position.register_buffer("alpha", torch.ones(1), persistent=False)
        self.output = nn.Linear(16, 16)

    def forward(self, x):
        x = self.cnn(x)
        return self.output((self.position(x) - x).flatten(2).transpose(1, 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_reference_outputs_of_the_position_part(oracle, dims):
    names = {"pa.fc_q": "position.query.linear", "pa.fc_k": "position.key", "pa.fc_v": "position.value"}
    names |= {"pa.fc_o": "output", "cnn": "cnn"}

    def renamed(state: dict) -> dict:
        pairs = {key: key.rpartition(".") for key in state if key != "pa.fc_k.bias"}  # it cancels in the softmax
        return {f"{names[name]}.{kind}": state[key] for key, (name, _, kind) in pairs.items()}

    compare_with_oracle(_PublicVersion(dims), oracle("danet_position"), renamed, lifted=dims == 3)
