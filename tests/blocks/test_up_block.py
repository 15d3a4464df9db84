"""UpBlock against its formula, the original implementation and its own documentation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.blocks import UpBlock
from tests import harness
from tests.modules import randomised
from tests.references import transformer as transformer_references
from tests.references.layers import State
from tests.references.oracles import compare_with_oracle

INSTANCE = ("instance", {"affine": True})


class _OnSkip(nn.Module):
    """An UpBlock that takes its size from the skip."""

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        return self.block(x, list(skip.shape[2:]), skip)


def _case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return _OnSkip(UpBlock(dims, 6, 4, 5, **kwargs))

    skip, coarse = (4, 7, 6, 9)[: dims + 1], (6, 4, 3, 5)[: dims + 1]
    return harness.Case.of(f"up_block-{dims}d", build, UpBlock, skip, coarse, out_channels=5, part_of="TransUnet")


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)]))
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize("skip_channels", [3, 0], ids=["skip", "no-skip"])
@pytest.mark.parametrize("norm", [INSTANCE, "batch"], ids=["instance", "batch"])
@pytest.mark.parametrize(
    ("coarse", "size", "kernel_size"),
    [
        ((2, 3, 4), (4, 6, 8), 3),
        ((3, 2, 3), (5, 4, 6), (1, 3, 5)),
        ((1, 4, 3), (3, 7, 3), 3),
        ((4, 3), (7, 6), (3, 1)),
    ],
    ids=str,
)
def test_equals_the_formula(coarse, size, kernel_size, norm, skip_channels):
    module = randomised(UpBlock(len(size), 4, skip_channels, 5, kernel_size=kernel_size, norm=norm))
    x = torch.randn(2, 4, *coarse, dtype=torch.float64)
    skip = torch.randn(2, 3, *size, dtype=torch.float64) if skip_channels else None
    want = transformer_references.up_block(x, size, skip, module.state_dict())
    assert want.any()
    torch.testing.assert_close(module(x, list(size), skip), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("skip_channels", [3, 0], ids=["skip", "no-skip"])
def test_torchscript_takes_a_skip_or_none(skip_channels):
    module = randomised(UpBlock(2, 4, skip_channels, 5))
    x = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    skip = torch.randn(2, 3, 5, 6, dtype=torch.float64) if skip_channels else None
    scripted = torch.jit.script(module)
    torch.testing.assert_close(scripted(x, [5, 6], skip), module(x, [5, 6], skip))


def test_activation_and_norm_are_those_asked_for():
    module = randomised(UpBlock(2, 4, 0, 5, act="tanh", norm=None))
    x = torch.randn(1, 4, 3, 4, dtype=torch.float64)
    want = x
    for i in range(2):
        want = F.conv2d(want, module.state_dict()[f"convolutions.{i}.conv.weight"], padding=1).tanh()
    torch.testing.assert_close(module(x, [3, 4]), want)


@pytest.mark.parametrize(("dims", "kernel_size", "taps"), [(2, 3, 9), (3, 3, 27), (3, (1, 3, 5), 15)])
@pytest.mark.parametrize("skip_channels", [4, 0])
@pytest.mark.parametrize(("norm", "affine"), [(INSTANCE, True), ("instance", False)])
def test_parameter_count(dims, kernel_size, taps, skip_channels, norm, affine):
    module = UpBlock(dims, 6, skip_channels, 5, kernel_size=kernel_size, norm=norm)
    want = taps * 5 * (6 + skip_channels + 5) + (4 * 5 if affine else 0)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "even": ({"kernel_size": (3, 2, 3)}, r"kernel_size must be odd .* got \(3, 2, 3\); use for example \(3, 3, 3\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    arguments = {"spatial_dims": 3, "in_channels": 6, "skip_channels": 4, "out_channels": 5}
    with pytest.raises(ValueError, match=message):
        UpBlock(**arguments | kwargs)


def _renamed(state: State) -> State:
    names = {"conv1.0": "convolutions.0.conv", "conv1.1": "convolutions.0.adn.N"}
    names |= {"conv2.0": "convolutions.1.conv", "conv2.1": "convolutions.1.adn.N"}
    return {names[key[:7]] + key[7:]: value for key, value in state.items()}


def _aligned(x: Tensor, size: list[int]) -> Tensor:
    """The original keeps the corners in place, which stretches the rest."""
    return F.interpolate(x, size, mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=True)


def _block(dims: int) -> UpBlock:
    return UpBlock(dims, 16, 12, 8, kernel_size=(1, 3, 3)[-dims:], norm="batch")


@pytest.mark.parametrize("dims", [2, 3])
def test_original_which_aligns_the_corners(oracle, monkeypatch, dims):
    monkeypatch.setattr("custom_networks.blocks.up_block.resize", _aligned)
    module = _block(dims)

    def forward(x: Tensor, skip: Tensor) -> Tensor:
        return module(x, list(skip.shape[2:]), skip)

    compare_with_oracle(module, oracle("transunet_decoderblock"), _renamed, forward=forward, lifted=dims == 3)


def test_we_do_not_align_the_corners(oracle):
    module = _block(2)

    def forward(x: Tensor, skip: Tensor) -> Tensor:
        return module(x, list(skip.shape[2:]), skip)

    with pytest.raises(AssertionError, match="output in eval"):
        compare_with_oracle(module, oracle("transunet_decoderblock"), _renamed, forward=forward)
