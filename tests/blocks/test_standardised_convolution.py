"""StandardisedConvolution against its formula, the original implementation and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.blocks import StandardisedConvolution
from tests import harness
from tests.modules import randomised
from tests.references import transformer as transformer_references
from tests.references.oracles import compare_with_oracle


def _case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return StandardisedConvolution(dims, 4, 6, **kwargs)

    shape = (4, 5, 6, 7)[: dims + 1]
    name = f"standardised_convolution-{dims}d"
    return harness.Case.of(name, build, StandardisedConvolution, shape, out_channels=6, part_of="TransUnet")


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)]))
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize(
    ("size", "kernel_size", "strides"),
    [
        ((5, 6, 7), 3, 2),
        ((4, 1, 9), (1, 3, 5), (1, 2, 3)),
        ((6, 5, 4), 1, (2, 1, 2)),
        ((7, 8), 3, 1),
        ((9, 5), (7, 1), (4, 2)),
    ],
    ids=str,
)
def test_equals_the_formula(size, kernel_size, strides):
    module = randomised(StandardisedConvolution(len(size), 3, 4, kernel_size=kernel_size, strides=strides), std=2.0)
    nn.init.constant_(module.weight[0], 3.0)  # a variance of zero
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    steps = (strides,) * len(size) if isinstance(strides, int) else strides
    want = transformer_references.standardised_convolution(x, module.weight, steps)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)
    assert module(x).shape == (2, 4, *(-(-s // step) for s, step in zip(size, steps, strict=True)))


def test_scale_and_offset_of_the_weights_do_not_matter():
    module, x = randomised(StandardisedConvolution(3, 4, 5), std=100.0), torch.randn(1, 4, 4, 5, 6, dtype=torch.float64)
    want = module(x)
    with torch.no_grad():
        module.weight.copy_(7 * module.weight + 300 * torch.arange(5).view(5, 1, 1, 1, 1))
    torch.testing.assert_close(module(x), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("dims", "kernel_size", "taps"), [(2, 3, 9), (3, 3, 27), (3, (1, 3, 5), 15)])
def test_parameter_count(dims, kernel_size, taps):
    module = StandardisedConvolution(dims, 4, 6, kernel_size=kernel_size, strides=2)
    assert sum(p.numel() for p in module.parameters()) == taps * 4 * 6


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "even": ({"kernel_size": (3, 4, 3)}, r"kernel_size must be odd .* got \(3, 4, 3\); use for example \(3, 5, 3\)"),
    "kernel-axes": ({"kernel_size": (3, 3)}, r"kernel_size must be .* 3 positive integers, got \(3, 3\)"),
    "strides": ({"strides": 0}, "strides must be a positive integer .* got 0"),
    "one-weight": (
        {"in_channels": 1, "kernel_size": 1},
        "needs 2 weights per output channel, got in_channels=1 and kernel_size=1; use a larger kernel",
    ),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        StandardisedConvolution(**{"spatial_dims": 3, "in_channels": 4, "out_channels": 6} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    kernel_size, strides = (1, 3, 3)[-dims:], (1, 2, 2)[-dims:]
    module = StandardisedConvolution(dims, 8, 12, kernel_size=kernel_size, strides=strides)
    compare_with_oracle(module, oracle("stdconv2d_3x3_s2"), lifted=dims == 3)
