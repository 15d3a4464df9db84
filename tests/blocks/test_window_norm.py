"""WindowNorm against torch's norms, one window after the other, and its parts against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.blocks import WindowNorm
from custom_networks.blocks.window_norm import build_norm, move_average
from tests import axial_references
from tests.modules import randomised

NORMS = {
    "batch": "batch",
    "batch without affine": ("batch", {"affine": False}),
    "batch with a momentum": ("batch", {"momentum": 0.3, "eps": 1e-2}),
    "instance": ("instance", {"affine": True}),
    "plain instance": "instance",
}


def _unlike(count: int, *size: int) -> torch.Tensor:
    """Return a batch whose samples differ in mean and spread."""
    scale = torch.arange(1, count + 1, dtype=torch.float64).view(-1, 1, *(1,) * len(size))
    return torch.randn(count, 4, *size, dtype=torch.float64) * scale + scale**2


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("size", [(3, 2), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
def test_windows_in_the_batch_equal_a_loop_over_them(norm, size, windows, training):
    folded = randomised(WindowNorm(norm, len(size), 4)).train(training)
    looped = randomised(build_norm(norm, len(size), 4)).train(training)
    looped.load_state_dict(folded.norm.state_dict())
    x = _unlike(6, *size)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, want = folded(mine, windows), torch.cat([looped(window) for window in theirs.chunk(windows)])
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(want)
    for y in (got, want):
        (y * direction).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-8, atol=1e-10)
    for one, other in zip(folded.parameters(), looped.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-9)
    assert list(folded.state_dict()) == [f"norm.{name}" for name in looped.state_dict()]
    for (name, one), other in zip(folded.named_buffers(), looped.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", ["batch", ("instance", {"affine": True})], ids=["batch", "instance"])
def test_equals_the_formula(norm, training):
    module = randomised(WindowNorm(norm, 3, 4)).train(training)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    x = _unlike(6, 2, 3, 2)
    want = torch.cat([axial_references.normalise(window, state, "norm", training) for window in x.chunk(2)])
    torch.testing.assert_close(module(x, windows=2), want, rtol=1e-9, atol=1e-9)
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(buffer, state[name], msg=lambda m, n=name: n + m)


def test_windows_matter_for_batch_norm_in_training_only():
    x = _unlike(6, 2, 3, 2)
    for norm, training, differs in (("batch", True, True), ("batch", False, False), ("instance", True, False)):
        module = WindowNorm(norm, 3, 4).double().train(training)
        assert torch.equal(module(x), module(x, windows=3)) != differs


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_moving_average_of_several_batches_equals_one_step_after_the_other(steps):
    average, batches = torch.randn(3, dtype=torch.float64), torch.randn(steps, 3, dtype=torch.float64)
    want = average.clone()
    for batch in batches:
        want = 0.7 * want + 0.3 * batch
    batches.requires_grad_()
    move_average(average, batches, 0.3)
    torch.testing.assert_close(average, want, rtol=1e-12, atol=1e-12)
    assert not average.requires_grad


@pytest.mark.parametrize("dims", [2, 3])
def test_norms_that_are_built(dims):
    batch, instance = (nn.BatchNorm2d, nn.InstanceNorm2d) if dims == 2 else (nn.BatchNorm3d, nn.InstanceNorm3d)
    assert type(build_norm("batch", dims, 4)) is batch
    assert type(build_norm(("instance", {"affine": True}), dims, 4)) is instance


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
        WindowNorm(norm, 3, 4)
