"""SelectiveKernel against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.attention.selective_kernel import SelectiveKernel
from tests.modules import randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle

GROUP = ("group", {"num_groups": 1})
INSTANCE = ("instance", {"affine": True})


def layer_norm(x, weight, bias, axes):
    mean = x.mean(axes, keepdim=True)
    variance = ((x - mean) ** 2).mean(axes, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def branch(x, state, norm, dilation, groups):
    """Return relu(norm(K * x))."""
    column = (-1, *(1,) * (x.dim() - 2))
    y = references.convolve(x, state["conv.weight"], dilation, groups)
    if norm == GROUP:
        weight, bias = (state[f"adn.N.{k}"].view(column) for k in ("weight", "bias"))
        y = layer_norm(y, weight, bias, tuple(range(1, x.dim())))
    elif norm is None:
        y = y + state["conv.bias"].view(column)
    else:
        y = references.normalise(y, state, "adn.N")
    return y.clamp(min=0)


def weights_and_maps(x, state, norm, dilations, groups):
    """a = softmax_i(A_i relu(LN(W mean(sum u_i))))."""
    maps = [
        branch(x, references.below(state, f"branches.{i}"), norm, dilation, groups)
        for i, dilation in enumerate(dilations)
    ]
    z = sum(maps).flatten(2).mean(2) @ state["fuse.0.weight"].T
    z = layer_norm(z, state["fuse.1.weight"], state["fuse.1.bias"], (1,)).clamp(min=0)
    scores = torch.stack([z @ a.T for a in state["select.weight"].chunk(len(dilations))], dim=1).exp()
    return scores / scores.sum(1, keepdim=True), maps


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (5, 4)], ids=str)
@pytest.mark.parametrize(
    ("norm", "dilations", "groups"),
    [(GROUP, (1, 2), 1), (INSTANCE, (1, 2, 3), 2), ("batch", (2, 1), 4), (None, (1, 4), 1)],
    ids=["group", "instance", "batch", "no-norm"],
)
def test_equals_the_formula(size, norm, dilations, groups):
    options = {"dilations": dilations, "groups": groups, "norm": norm, "reduction": 2, "min_channels": 3}
    module = randomised(SelectiveKernel(len(size), 8, **options))
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    weights, maps = weights_and_maps(x, module.state_dict(), norm, dilations, groups)
    want = sum(torch.einsum("bc,bc...->bc...", weights[:, i], u) for i, u in enumerate(maps))
    torch.testing.assert_close(module.attention_map(x), weights, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


def test_weights_sum_to_one_over_the_branches():
    weights = randomised(SelectiveKernel(3, 8, dilations=(1, 2, 3))).attention_map(torch.randn(2, 8, 4, 5, 6).double())
    assert weights.shape == (2, 3, 8)
    assert weights.min() > 0 and weights.std() > 1e-3
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 8, dtype=torch.float64))


def test_selection_depends_on_the_channel_means():
    """With instance norm adding a constant to an input channel changes (far from the border) no pooled value."""
    x = torch.randn(1, 8, 6, 7, 5, dtype=torch.float64)
    brighter = x.clone()
    brighter[:, 0] += 3
    change = {}
    for name, norm in {"group": GROUP, "instance": INSTANCE}.items():
        torch.manual_seed(0)
        module = SelectiveKernel(3, 8, norm=norm).double()
        for convolution in module.branches:  # a kernel of one voxel has no border
            weight = convolution.conv.weight.data
            centre = weight[:, :, 1, 1, 1].clone()
            weight.zero_()[:, :, 1, 1, 1] = centre
        change[name] = (module.attention_map(brighter) - module.attention_map(x)).abs().max().item()
    assert change["group"] > 1e-2
    assert change["instance"] < 1e-9


def test_one_voxel_trains():
    module = SelectiveKernel(3, 8).train()
    module(torch.randn(1, 8, 1, 1, 1)).sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("dilations", "reduction", "min_channels", "groups", "norm", "d"),
    [((1, 2), 16, 32, 1, GROUP, 32), ((1, 2, 3), 2, 4, 4, INSTANCE, 8), ((1, 1), 4, 2, 2, None, 4)],
    ids=["default", "three", "no-norm"],
)
def test_parameter_count(dims, dilations, reduction, min_channels, groups, norm, d):
    c, m = 16, len(dilations)
    options = {"reduction": reduction, "min_channels": min_channels, "groups": groups, "norm": norm}
    module = SelectiveKernel(dims, c, dilations=dilations, **options)
    want = m * (3**dims * c**2 // groups + (c if norm is None else 2 * c)) + (m + 1) * c * d + 2 * d
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "reduction": ({"reduction": 0}, "reduction must be at least 1, got 0; use 1"),
    "groups": ({"groups": 3}, "groups must divide in_channels 16, got 3; use one of 1, 2, 4, 8, 16"),
    "one-branch": ({"dilations": (1,)}, r"dilations must be at least two positive integers, got \(1,\); use for"),
    "dilation-zero": ({"dilations": (1, 0)}, r"dilations must be .* got \(1, 0\)"),
    "narrow": ({"min_channels": 1}, "min_channels must be at least 2, got 1; layer norm of one channel is constant"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SelectiveKernel(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    """The original has kernels of 1, 3, 5 and 7 voxels, all layers with a bias, and nothing after the first linear."""
    module = SelectiveKernel(dims, 16, dilations=(1, 2, 3, 4), reduction=4, min_channels=8, norm="batch")
    for convolution, size in zip(module.branches, (1, 3, 5, 7), strict=True):
        kernel = (1, size, size)[3 - dims :]
        kind = type(convolution.conv)
        convolution.conv = kind(16, 16, kernel, padding=tuple(k // 2 for k in kernel))
    module.fuse = nn.Linear(16, 8)
    module.select = nn.Linear(8, 64)

    def names(state: dict) -> dict:
        renamed = {k.replace("convs.", "branches.").replace(".bn.", ".adn.N."): v for k, v in state.items()}
        renamed = {k.replace("fc.", "fuse.") if k.startswith("fc.") else k: v for k, v in renamed.items()}
        for kind in ("weight", "bias"):
            parts = [renamed.pop(f"fcs.{i}.{kind}", None) for i in range(4)]
            if parts[0] is not None:
                renamed[f"select.{kind}"] = torch.cat(parts)
        return renamed

    compare_with_oracle(module, oracle("sk"), names, lifted=dims == 3)
