"""AttentionGate against its formula, the original implementations and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.blocks import AttentionGate
from tests import harness
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle

INSTANCE = ("instance", {"affine": True})


def _case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return AttentionGate(dims, 8, 12, **kwargs)

    skip, gating = (8, 7, 6, 9)[: dims + 1], (12, 4, 3, 5)[: dims + 1]
    return harness.Case.of(
        f"attention_gate-{dims}d", build, AttentionGate, skip, gating, out_channels=8, part_of="AttentionUnet"
    )


CHECKS = (*harness.MODULE_CHECKS, harness.check_attention_map)


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)], CHECKS))
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize("norm", [INSTANCE, None], ids=["instance", "no-norm"])
@pytest.mark.parametrize(
    ("size", "coarse", "sub_sample"),
    [
        ((8, 6, 10), (4, 3, 5), 2),
        ((7, 5, 9), (4, 2, 3), 2),
        ((5, 8, 6), (5, 4, 3), (1, 2, 2)),
        ((6, 6, 7), (1, 2, 9), (3, 1, 2)),
        ((9, 7), (4, 5), 2),
        ((4, 9), (2, 2), (2, 4)),
    ],
    ids=str,
)
def test_equals_the_formula(norm, size, coarse, sub_sample):
    module = AttentionGate(len(size), 6, 5, inter_channels=4, sub_sample=sub_sample, norm=norm).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    gating = torch.randn(2, 5, *coarse, dtype=torch.float64)
    state = module.state_dict()
    alpha = module.attention_map(x, gating)
    torch.testing.assert_close(alpha, references.gate_map(x, gating, state), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module(x, gating), references.attention_gate(x, gating, state), rtol=1e-10, atol=1e-10)
    assert alpha.shape == (2, 1, *size)
    assert alpha.min() > 0
    assert alpha.max() < 1


@pytest.mark.parametrize("logit", [-40.0, 40.0], ids=["closed", "open"])
def test_limits(logit):
    gate = AttentionGate(3, 4, 4, norm=None)
    nn.init.zeros_(gate.psi.weight)
    nn.init.constant_(gate.psi.bias, logit)
    x = torch.randn(1, 4, 4, 6, 8)
    want = gate.W(x if logit > 0 else torch.zeros_like(x))
    torch.testing.assert_close(gate(x, torch.randn(1, 4, 2, 3, 4)), want)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("sub_sample", [1, 2])
@pytest.mark.parametrize(("inter", "i"), [(None, 4), (3, 3)])
@pytest.mark.parametrize("norm", [INSTANCE, None], ids=["norm", "no-norm"])
def test_parameter_count(dims, sub_sample, inter, i, norm):
    c, g, s = 8, 12, sub_sample**dims
    module = AttentionGate(dims, c, g, inter_channels=inter, sub_sample=sub_sample, norm=norm)
    want = s * c * i + (g + 1) * i + (i + 1) + (c + 1) * c + (0 if norm is None else 2 * c)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "sub-sample-axes": ({"sub_sample": (2, 2)}, r"sub_sample must be .* got \(2, 2\); use for example \(2, 2, 2\)"),
    "sub-sample-zero": ({"sub_sample": 0}, "sub_sample must be .* got 0"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AttentionGate(**{"spatial_dims": 3, "in_channels": 8, "gating_channels": 12} | kwargs)


def _both_outputs(module: AttentionGate):
    """The original returns the gate as well; our forward must agree with what its gate and W give."""

    def forward(x, gating):
        alpha = module.attention_map(x, gating)
        return module(x, gating), alpha

    return forward


@pytest.mark.parametrize("dims", [2, 3])
def test_original_2d(oracle, dims):
    sub_sample = 2 if dims == 2 else (1, 2, 2)
    module = AttentionGate(dims, 8, 12, inter_channels=6, sub_sample=sub_sample, norm="batch")
    compare_with_oracle(module, oracle("oktay_gate2d"), forward=_both_outputs(module), lifted=dims == 3)


def test_original_3d(oracle):
    module = AttentionGate(3, 8, 12, inter_channels=6, norm="batch")
    compare_with_oracle(module, oracle("oktay_gate3d_concatenation"), forward=_both_outputs(module))


@pytest.mark.parametrize("mode", ["debug", "residual"])
def test_other_modes_of_the_original_are_something_else(oracle, mode):
    module = AttentionGate(3, 8, 12, inter_channels=6, norm="batch")
    reference = oracle(f"oktay_gate3d_concatenation_{mode}")
    with pytest.raises(AssertionError, match="output in eval"):
        compare_with_oracle(module, reference, forward=_both_outputs(module))
