"""The matrix product of patches against torch, also in bfloat16, which some processors get wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from custom_networks.blocks import PatchEmbedding, patch_convolution
from tests.modules import randomised

CASES = [((4, 6, 4), 2), ((8, 8, 16), 8), ((4, 8, 3), (2, 4, 1)), ((8, 12), (4, 3)), ((5, 7, 6), 1)]


def by_torch(module, x):
    convolve = F.conv2d if x.dim() == 4 else F.conv3d
    return convolve(x, module.weight, module.bias, module.stride)


@pytest.mark.parametrize(("size", "patch"), CASES, ids=str)
def test_equals_the_convolution(size, patch):
    module = randomised(patch_convolution(len(size), 3, 5, patch))
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    ours, theirs = module(x), by_torch(module, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(ours)
    inputs = [x, module.weight, module.bias]
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("patch", [(1, 1, 4), (4, 4, 4), (8, 8, 8)], ids=str)
@pytest.mark.parametrize("in_channels", [1, 8, 16, 32])
def test_bfloat16_is_near_float32(patch, in_channels):
    """Torch's own is off by more than its values with 8 or 16 channels on a processor with AMX."""
    torch.manual_seed(0)
    module = patch_convolution(3, in_channels, 32, patch)
    x = torch.randn(1, in_channels, 16, 16, 16, requires_grad=True)
    found = {}
    for amp in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            y = module(x).float()
        found[amp] = [y, *torch.autograd.grad(y.square().sum(), [x, module.weight, module.bias])]
    for exact, rounded in zip(found[False], found[True], strict=True):
        assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_have_the_names_and_the_start_of_a_convolution(dims):
    module = patch_convolution(dims, 2, 6, 3)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "weight": (6, 2, *(3,) * dims),
        "bias": (6,),
    }
    torch.manual_seed(0)
    ours = PatchEmbedding(dims, 2, 6, patch=3).proj.weight
    torch.manual_seed(0)
    other = (torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d)(2, 6, 3, 3)
    torch.nn.init.kaiming_normal_(other.weight, a=0.01)
    assert torch.equal(ours, other.weight)


@pytest.mark.parametrize(("dims", "patch"), [(1, 2), (3, (2, 2)), (3, 0)])
def test_what_does_not_fit(dims, patch):
    with pytest.raises(ValueError, match=r"spatial_dims|patch"):
        patch_convolution(dims, 1, 2, patch)
