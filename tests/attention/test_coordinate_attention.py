"""CoordinateAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from custom_networks.attention.coordinate_attention import CoordinateAttention
from tests.modules import randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle

INSTANCE = ("instance", {"affine": True})
BATCH = "batch"


def reference(x, state):
    """x times the product over the axes of sigmoid(F_a f_a), f = hswish(norm(F_1 z)), z the joint mean profiles."""
    size = x.shape[2:]
    slices = [[x.select(axis, i).flatten(2).mean(2) for i in range(n)] for axis, n in enumerate(size, start=2)]
    z = torch.stack([mean for profile in slices for mean in profile], dim=2)
    f = references.pointwise(z, state, "joint.0")
    f = references.normalise(f, state, "joint.1") if "joint.1.weight" in state else f
    f = f * (f + 3).clamp(0, 6) / 6
    y, start = x.clone(), 0
    for i, n in enumerate(size):
        gate = 1 / (1 + (-references.pointwise(f[:, :, start : start + n], state, f"gates.{i}")).exp())
        for j in range(n):
            y.select(2 + i, j).mul_(gate[:, :, j].reshape(*gate.shape[:2], *(1,) * (len(size) - 1)))
        start += n
    return y


@pytest.mark.parametrize("norm", [INSTANCE, BATCH, None], ids=["instance", "batch", "no-norm"])
@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4), (1, 9)], ids=str)
@pytest.mark.parametrize(("channels", "reduction"), [(6, 32), (20, 2)])
def test_equals_the_formula(norm, size, channels, reduction):
    module = randomised(CoordinateAttention(len(size), channels, reduction=reduction, norm=norm))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict()), rtol=1e-10, atol=1e-10)


def test_permuting_axes_and_gates_alike_permutes_the_output():
    module, permuted = randomised(CoordinateAttention(3, 6)), CoordinateAttention(3, 6).double()
    x = torch.randn(2, 6, 4, 3, 5, dtype=torch.float64)
    state = module.state_dict()
    for order in itertools.permutations(range(3)):
        gates = {f"gates.{i}.{key}": state[f"gates.{order[i]}.{key}"] for i in range(3) for key in ("weight", "bias")}
        permuted.load_state_dict(state | gates)
        axes = (0, 1, *(2 + axis for axis in order))
        torch.testing.assert_close(permuted(x.permute(axes)), module(x).permute(axes))


def test_attention_map_is_a_gate_of_rank_one():
    module = randomised(CoordinateAttention(3, 6))
    x = torch.randn(2, 6, 4, 3, 5, dtype=torch.float64)
    gate = module.attention_map(x)
    assert gate.shape == x.shape
    assert 0 < gate.min() < gate.max() < 1
    torch.testing.assert_close(gate * x, module(x))
    # a product of one factor per axis: rank one along each
    for axis in (2, 3, 4):
        assert torch.linalg.matrix_rank(gate.movedim(axis, 2).flatten(3)).eq(1).all()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("channels", "reduction", "features"), [(16, 32, 8), (20, 2, 10), (3, 1, 8)])
def test_parameter_count(dims, channels, reduction, features):
    module = CoordinateAttention(dims, channels, reduction=reduction)
    want = channels * features + 2 * features + dims * (features + 1) * channels
    assert sum(p.numel() for p in module.parameters()) == want


def test_bad_arguments():
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 4; reshape"):
        CoordinateAttention(4, 16)
    with pytest.raises(ValueError, match="reduction must be at least 1, got 0; use 1"):
        CoordinateAttention(3, 16, reduction=0)


class _Open(nn.Module):
    """Stands for the gate over depth, which the original lacks: always 1."""

    def forward(self, features):
        return torch.full_like(features[:, :1], torch.inf)


@pytest.mark.parametrize("dims", [2, 3])
def test_original_2d(oracle, dims):
    module = CoordinateAttention(dims, 16, reduction=4, norm=BATCH)
    module.joint[0] = nn.Conv1d(16, 8, 1)  # the original keeps a bias before the norm, which ours leaves out
    expected = oracle("coord")
    if dims == 3:
        module.gates[0] = _Open()
        # In training the statistics of the norm would include the profile over depth.
        expected = {key: value for key, value in expected.items() if not key.endswith("_train")}
    layers = {"conv1": "joint.0", "bn1": "joint.1", "conv_h": f"gates.{dims - 2}", "conv_w": f"gates.{dims - 1}"}

    def names(state: dict) -> dict:
        renamed = {}
        for key, value in state.items():
            layer, name = key.split(".")
            renamed[f"{layers[layer]}.{name}"] = value.flatten(2) if value.dim() == 4 else value
        return renamed

    compare_with_oracle(module, expected, names, lifted=dims == 3)
