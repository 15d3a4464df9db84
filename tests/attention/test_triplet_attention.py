"""TripletAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.attention.triplet_attention import TripletAttention
from tests.modules import randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle

INSTANCE = ("instance", {"affine": True})
BATCH = ("batch", {"momentum": 0.01})  # that of the original


def reference(x, state):
    """x times the mean of sigmoid(norm(conv([max, mean] over a))), the channel axis in the place of axis a."""
    gates = []
    for axis in range(1, x.dim()):
        pooled = torch.stack([x.max(axis).values, x.mean(axis)], dim=1)  # (B, 2, axes but a, channels first)
        y = references.convolve(pooled.movedim(2, axis) if axis > 1 else pooled, state[f"gates.{axis - 1}.0.weight"])
        if f"gates.{axis - 1}.1.weight" in state:
            y = references.normalise(y, state, f"gates.{axis - 1}.1")
        else:
            y = y + state[f"gates.{axis - 1}.0.bias"]
        y = 1 / (1 + (-y.squeeze(1)).exp())
        y = y.movedim(axis - 1, 1) if axis > 1 else y
        gates.append(y.unsqueeze(axis).expand_as(x))
    return x * torch.stack(gates).mean(0)


@pytest.mark.parametrize("norm", [INSTANCE, BATCH, None], ids=["instance", "batch", "no-norm"])
@pytest.mark.parametrize(("size", "kernel_size"), [((4, 6, 5), 3), ((3, 1, 7), 7), ((5, 4), 7), ((1, 9), 5)], ids=str)
def test_equals_the_formula(norm, size, kernel_size):
    module = randomised(TripletAttention(len(size), 6, kernel_size=kernel_size, norm=norm))
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict()), rtol=1e-10, atol=1e-10)


def test_permuting_axes_and_gates_alike_permutes_the_output():
    module, permuted = randomised(TripletAttention(3, 6, kernel_size=3)), TripletAttention(3, 6, kernel_size=3)
    x = torch.randn(2, 6, 4, 3, 5, dtype=torch.float64)
    for order in itertools.permutations(range(3)):
        state = {}
        for gate in range(4):
            source = references.below(module.state_dict(), f"gates.{order[gate - 1] + 1 if gate else 0}")
            source["0.weight"] = source["0.weight"].permute(0, 1, *(2 + axis for axis in order))
            state |= {f"gates.{gate}.{key}": value for key, value in source.items()}
        permuted.double().load_state_dict(state)
        axes = (0, 1, *(2 + axis for axis in order))
        torch.testing.assert_close(permuted(x.permute(axes)), module(x).permute(axes))


def test_attention_map_is_a_gate_between_0_and_1():
    module = randomised(TripletAttention(3, 6))
    x = torch.randn(2, 6, 4, 3, 5, dtype=torch.float64)
    gate = module.attention_map(x)
    assert 0 < gate.min() < gate.max() < 1
    torch.testing.assert_close(gate * x, module(x))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kernel_size", [3, 7])
@pytest.mark.parametrize("channels", [1, 16])
def test_parameter_count(dims, kernel_size, channels):
    module = TripletAttention(dims, channels, kernel_size=kernel_size)
    assert sum(p.numel() for p in module.parameters()) == (dims + 1) * (2 * kernel_size**dims + 2)
    assert sum(p.numel() for p in TripletAttention(3, 16).parameters()) == 2752


def test_bad_arguments():
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 1; reshape"):
        TripletAttention(1, 16)
    for kernel_size in (4, 0, -3):
        message = f"kernel_size must be odd and positive, got {kernel_size}; use for example"
        with pytest.raises(ValueError, match=message):
            TripletAttention(3, 16, kernel_size=kernel_size)


class _Shut(nn.Module):
    """Stands for the gate over depth, which the original lacks: always 0."""

    def forward(self, pooled):
        return torch.full_like(pooled[:, :1], -torch.inf)


@pytest.mark.parametrize("dims", [2, 3])
def test_original_2d(oracle, dims):
    module = TripletAttention(dims, 16, norm=BATCH)
    if dims == 3:
        module.gates[1] = _Shut()
    gates = {"hw": 0, "cw": dims - 1, "hc": dims}

    def names(state: dict) -> dict:
        renamed = {}
        for key, value in state.items():
            branch, _, layer, name = key.split(".")
            if dims == 3 and layer == "conv":
                value = F.pad(value.unsqueeze(2), [0, 0, 0, 0, 3, 3])
            renamed[f"gates.{gates[branch]}.{('conv', 'bn').index(layer)}.{name}"] = value
        return renamed

    def forward(x):
        return module(x) * ((dims + 1) / 3)  # the original takes the mean over three gates

    compare_with_oracle(module, oracle("triplet"), names, forward=forward, lifted=dims == 3)
