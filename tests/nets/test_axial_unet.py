"""AxialUnet against a functional forward from its state dict, and its own documentation."""

from __future__ import annotations

import pytest
import torch

from custom_networks.blocks import GatedAxialAttention
from custom_networks.nets import AxialUnet
from tests.modules import randomised
from tests.references import axial as axial_references
from tests.references import layers as references

SMALL = {"features": (4, 8, 12, 16), "num_units": (1, 2, 1), "num_heads": 2, "token_grid": 4}
CASES = {
    "3d": ((8, 16, 8), {}, [(2, 2, 2)] * 3, None),
    "2d": ((16, 8), {"form": "ungated"}, [(2, 2)] * 3, None),
    "released": ((8, 8, 16), {"form": "released", "norm": "batch"}, [(2, 2, 2)] * 3, None),
    "positions left out": ((16, 8), {"form": "position_free"}, [(2, 2)] * 3, None),
    "no attention": ((8, 16, 8), {"attention": ()}, [(2, 2, 2)] * 3, None),
    "pooled stem": (
        (8, 16, 4),
        {"stem_pool": (2, 2, 1), "strides": (2, 2, 1)},
        [(2, 2, 2)] * 2 + [(1, 1, 1)],
        (2, 2, 1),
    ),
    "skip": ((8, 8, 16), {"stem_skip": True, "decoder_norm": True}, [(2, 2, 2)] * 3, None),
    "anisotropic": (
        (3, 16, 12),
        {"strides": [(1, 2, 2), (1, 2, 1), (1, 2, 3)], "kernel_size": [(1, 3, 3), 3, (1, 3, 5), (3, 1, 3)]},
        [(1, 2, 2), (1, 2, 1), (1, 2, 3)],
        None,
    ),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("size", "kwargs", "strides", "pool"), CASES.values(), ids=CASES.keys())
def test_equals_the_functional_forward(size, kwargs, strides, pool, training):
    net = randomised(AxialUnet(len(size), 2, 3, **SMALL | kwargs), 0.3).train(training)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    branch = references.below(state, "branch")
    options = {"pool": pool, "released": kwargs.get("form") == "released", "training": training}
    outputs = axial_references.axial_branch(x, branch, strides, 2, **options)
    want = axial_references.stacked_logits(outputs, state)
    assert want.shape[1] == 1
    torch.testing.assert_close(net(x), want[:, 0], rtol=1e-7, atol=1e-7)
    for name, buffer in net.branch.named_buffers():
        torch.testing.assert_close(buffer, branch[name], msg=lambda m, n=name: n + m)


def test_deep_supervision_equals_the_functional_forward():
    net = randomised(AxialUnet(3, 1, 3, **SMALL, deep_supervision=True), 0.3).train()
    x = torch.randn(1, 1, 16, 8, 8, dtype=torch.float64)
    state = net.state_dict()
    outputs = axial_references.axial_branch(x, references.below(state, "branch"), [(2, 2, 2)] * 3, 2)
    want = axial_references.stacked_logits(outputs, state)
    assert want.shape == (1, 3, 3, 16, 8, 8)
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


def test_tables_have_the_lengths_of_the_grids_that_they_are_used_on():
    net = AxialUnet(**SMALL | {"token_grid": (4, 3, 9)}, strides=2, stem_pool=(1, 2, 1))
    lengths = [(len(m.table) + 1) // 2 for m in net.modules() if isinstance(m, GatedAxialAttention)]
    assert lengths == [4, 3, 9, 4, 3, 9, 2, 2, 5, 2, 2, 5]


def count(
    dims,
    f,
    n,
    out,
    units,
    grid,
    *,
    num_heads=8,
    gates=4,
    positions=True,
    attention=True,
    bottom=True,
    skip=False,
    norms=False,
    readers=1,
    deep=0,
):
    """Return the number of parameters by the formulas of the docstrings, all strides two."""
    k, levels, s = 3**dims, len(f), f[0] // 2
    total = 16 * k * s * f[0] + 4 * s + 16 * f[0]
    total += 7**dims * n * s if readers == 1 else k * s * (n + (readers - 1) * s) + 2 * (readers - 1) * s
    length = grid
    for level in range(1, levels):
        c, i = s if level == 1 else f[level - 1], f[level] // 2
        g = max(n for n in range(1, num_heads + 1) if num_heads % n == 0 and (i // 2) % n == 0)
        for unit in range(units[level - 1]):
            total += c * i + i * f[level] + 2 * i + 2 * f[level]
            total += c * f[level] + 2 * f[level] if c != f[level] or (level > 1 and unit == 0) else 0
            if attention and positions:
                total += dims * (2 * i**2 + 8 * i + 3 * g + (2 * length - 1) * 2 * i // g + gates)
            elif attention:
                total += dims * (2 * i**2 + 6 * i + g)
            length = length if level == 1 or unit else length // 2
            c = f[level]
    total += sum(k * f[i] * f[i - 1] + f[i - 1] for i in range(1, levels))
    total += k * f[-1] ** 2 + f[-1] if bottom else 0
    total += (s + 1) * f[0] if skip else 0
    total += 2 * (sum(f[:-1]) + (f[0] if skip else 0)) if norms else 0
    return total + sum((f[i] + 1) * out for i in range(1, deep + 1)) + ((f[0] + 1) * out if out else 0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("kwargs", "rest"),
    [
        ({}, {}),
        ({"form": "ungated"}, {"gates": 0}),
        ({"form": "position_free"}, {"positions": False}),
        ({"attention": ()}, {"attention": False}),
        ({"stem_skip": True}, {"skip": True}),
        ({"stem_skip": True, "decoder_norm": True}, {"skip": True, "norms": True}),
        ({"stem_convolutions": 3}, {"readers": 3}),
        ({"deep_supervision": True}, {"deep": 2}),
    ],
    ids=["gated", "ungated", "position-free", "identity", "skip", "norms", "convolutions", "deep"],
)
def test_parameter_count(dims, kwargs, rest):
    net = AxialUnet(dims, 2, 5, features=(4, 8, 16, 32), num_units=(2, 1, 2), num_heads=4, token_grid=8, **kwargs)
    want = count(dims, (4, 8, 16, 32), 2, 5, (2, 1, 2), 8, num_heads=4, **rest)
    assert sum(p.numel() for p in net.parameters()) == want


@pytest.mark.parametrize(("form", "published"), [("ungated", 1_326_066), ("gated", 1_326_130)])
def test_the_default_in_2d_is_the_network_of_the_paper(form, published):
    """At 128x128; the 24 shifts of the logits of each of 16 attentions, which no softmax sees, are left out."""
    net = AxialUnet(2, 1, 2, form=form, token_grid=64)
    assert sum(p.numel() for p in net.parameters()) == published - 16 * 24


@pytest.mark.parametrize("size", [(8, 24, 8), (16, 40, 24)], ids=str)
def test_forward_and_backward_at_any_size(size):
    torch.manual_seed(0)
    net = AxialUnet(**SMALL | {"num_units": (1, 1, 1)}, checkpointing=True)
    net(torch.randn(1, 1, *size)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
    "levels": ({"features": (8,)}, r"features must name at least 2 levels, got \(8,\); add a level"),
    "deep": ({"features": (4, 8), "deep_supervision": True}, r"at least 3 levels, got \(4, 8\); add a level"),
    "attention": ({"attention": ("gate",)}, r"attention must hold only \('axial',\), got \['gate'\]; leave out"),
    "width": ({"features": (4, 8, 10, 16)}, r"features must be even and .* got \(4, 8, 10, 16\); use \(4, 8, 12, 16\)"),
    "odd": ({"features": (3, 8, 8, 16)}, r"features must be even and .* got \(3, 8, 8, 16\); use \(4, 8, 8, 16\)"),
    "strides": ({"strides": (2, 2)}, r"strides must have 3 entries .* got 2: \(2, 2\)"),
    "kernel-number": ({"kernel_size": (3, 3)}, r"kernel_size must have 4 entries .* got 2"),
    "kernel-even": ({"kernel_size": 2}, "kernel_size must be odd and positive, got"),
    "units": ({"num_units": (1, 1)}, r"num_units must be 3 positive integers .* got \(1, 1\); give one for each"),
    "no-units": ({"num_units": (1, 0, 1)}, r"num_units must be 3 positive integers .* got \(1, 0, 1\)"),
    "convolutions": ({"stem_convolutions": 0}, "stem_convolutions must be at least 1, got 0; use 1 for the paper's"),
    "pool": ({"stem_pool": (2, 2)}, r"stem_pool must be a positive integer or 3 .* got \(2, 2\)"),
    "form": ({"form": "post"}, r"form must be one of \('gated', .* got 'post'; choose one"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AxialUnet(**SMALL | kwargs)
