"""DualConv against its formula, the original implementation and its own documentation."""

from __future__ import annotations

import pytest
import torch
from monai.networks.blocks import Convolution
from torch import nn

from custom_networks.blocks import DualConv, convolution_block
from tests import harness
from tests.modules import randomised
from tests.references import mbtfe as mbtfe_references
from tests.references.oracles import compare_with_oracle

BLOCK = {"act": ("leakyrelu", {"negative_slope": 0.01}), "norm": ("instance", {"affine": True})}


def _case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return DualConv(dims, 8, 4, groups=2, **kwargs)

    return harness.Case.of(f"dual_conv-{dims}d", build, DualConv, (8, 4, 6, 5)[: dims + 1], out_channels=4)


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)]))
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    ("size", "kernel_size", "strides"),
    [
        ((4, 6, 5), 3, (1, 1, 1)),
        ((5, 1, 7), 3, (2, 2, 2)),
        ((4, 6, 5), (1, 3, 5), (1, 2, 3)),
        ((5, 4), (3, 1), (2, 1)),
    ],
    ids=str,
)
def test_equals_the_formula(size, kernel_size, strides, groups):
    module = randomised(DualConv(len(size), 4, 8, kernel_size=kernel_size, strides=strides, groups=groups))
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    want = mbtfe_references.dual_conv(x, module.state_dict(), strides, groups)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strides", [1, 2])
def test_original(oracle, strides):
    names = {"gc.weight": "grouped.weight", "pwc.weight": "pointwise.weight"}
    compare_with_oracle(
        DualConv(3, 8, 12, strides=strides, groups=4),
        oracle(f"dualconv_s{strides}"),
        lambda state: {names[key]: value for key, value in state.items()},
    )


@pytest.mark.parametrize("dual_groups", [None, 2])
@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 2)])
def test_the_block_equals_the_formula(dual_groups, strides):
    module = randomised(
        convolution_block(3, 4, 6, kernel_size=(1, 3, 3), strides=strides, dual_groups=dual_groups, **BLOCK)
    )
    x = torch.randn(2, 4, 4, 5, 6, dtype=torch.float64)
    want = mbtfe_references.block(x, module.state_dict(), strides, dual_groups)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dual_groups", [None, 2])
def test_the_block_drops_before_the_norm(dual_groups):
    """As in nnU-Net: what reaches the norm has zeros, what leaves the block has none of them in training."""
    torch.manual_seed(0)
    module = convolution_block(3, 4, 4, dropout=0.5, dual_groups=dual_groups, act="tanh", norm="instance").train()
    kinds = [type(m).__name__ for m in module.modules()]
    assert kinds.index("Dropout") < kinds.index("InstanceNorm3d") < kinds.index("Tanh")
    assert module(torch.randn(1, 4, 5, 6, 4)).all()


def test_the_image_gets_a_dense_convolution():
    assert isinstance(convolution_block(3, 1, 8, dual_groups=8, **BLOCK), Convolution)
    assert isinstance(convolution_block(3, 8, 8, dual_groups=8, **BLOCK)[0], DualConv)


@pytest.mark.parametrize("dual_groups", [0, 4])
def test_the_block_names_its_own_argument(dual_groups):
    with pytest.raises(ValueError, match=f"^dual_groups must divide out_channels 6, got {dual_groups}; use one of"):
        convolution_block(3, 8, 6, dual_groups=dual_groups, **BLOCK)


@pytest.mark.parametrize(("dims", "kernel_size", "taps"), [(2, 3, 9), (3, 3, 27), (3, (1, 3, 5), 15)])
def test_parameter_count(dims, kernel_size, taps):
    module = DualConv(dims, 8, 12, kernel_size=kernel_size, groups=4)
    assert sum(p.numel() for p in module.parameters()) == 8 * 12 * taps // 4 + 8 * 12


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "input": ({"in_channels": 1}, "groups must divide in_channels 1, got 4; use one of 1"),
    "output": ({"out_channels": 6}, "groups must divide out_channels 6, got 4; use one of 1, 2, 3, 6"),
    "even": ({"kernel_size": 2}, "kernel_size must be odd and positive, got 2; use for example 3"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DualConv(**{"spatial_dims": 3, "in_channels": 8, "out_channels": 8, "groups": 4} | kwargs)
