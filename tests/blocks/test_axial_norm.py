"""The norms of the axial networks against torch's and their formulas, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.blocks.axial_norm import axial_norm, build_norm
from tests.modules import randomised
from tests.references import axial as axial_references

NORMS = {
    "batch": "batch",
    "batch without affine": ("batch", {"affine": False}),
    "instance": ("instance", {"affine": True}),
    "plain instance": "instance",
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", [(3, 2), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
def test_equals_the_formula(norm, size, training):
    module = randomised(axial_norm(norm, len(size), 4)).train(training)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    scale = torch.arange(1, 7, dtype=torch.float64).view(-1, 1, *(1,) * len(size))
    x = torch.randn(6, 4, *size, dtype=torch.float64) * scale + scale**2
    want = axial_references.normalise(x, state, "norm", training)
    torch.testing.assert_close(module(x), want, rtol=1e-9, atol=1e-9)
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(buffer, state[name], msg=lambda m, n=name: n + m)


def test_the_state_is_held_under_the_name_of_the_shipped_weights():
    for norm in NORMS.values():
        held = axial_norm(norm, 3, 4).state_dict()
        assert list(held) == [f"norm.{name}" for name in build_norm(norm, 3, 4).state_dict()]


@pytest.mark.parametrize("dims", [2, 3])
def test_norms_that_are_built(dims):
    batch, instance = (nn.BatchNorm2d, nn.InstanceNorm2d) if dims == 2 else (nn.BatchNorm3d, nn.InstanceNorm3d)
    assert type(build_norm("batch", dims, 4)) is batch
    assert type(build_norm(("instance", {"affine": True}), dims, 4)) is instance
    with_options = build_norm(("batch", {"momentum": 0.3, "eps": 1e-2}), dims, 4)
    assert (with_options.momentum, with_options.eps) == (0.3, 1e-2)


BAD = {
    "group": ("group", {"num_groups": 2}),
    "batch without statistics": ("batch", {"track_running_stats": False}),
    "batch with a cumulative average": ("batch", {"momentum": None}),
    "instance with statistics": ("instance", {"track_running_stats": True}),
    "layer": ("layer", {"normalized_shape": [4]}),
}


@pytest.mark.parametrize("norm", BAD.values(), ids=BAD.keys())
def test_other_norms_are_refused(norm):
    with pytest.raises(ValueError, match=r'norm must be a batch norm .* or an instance norm .* got .*; use .*"batch"'):
        axial_norm(norm, 3, 4)
