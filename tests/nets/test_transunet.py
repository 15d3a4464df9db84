"""TransUnet against a functional forward from its state dict, and its own documentation."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor

from custom_networks.blocks import VisionTransformer
from custom_networks.nets import TransUnet
from tests.modules import randomised
from tests.references import layers as references
from tests.references import transformer as slow

SMALL = {"features": (4, 6, 8, 16), "num_units": (1, 2), "num_layers": 2, "num_heads": 3, "norm_groups": 4}


def reference(x: Tensor, state: references.State, strides: list[tuple[int, ...]], kwargs: dict | None = None) -> Tensor:
    """Return the logits of every decoder level on the input grid, finest first: ``(B, levels, C, *S)``."""
    kwargs, size = kwargs or {}, x.shape[2:]
    maps = slow.residual_trunk(x, references.below(state, "trunk"), strides, SMALL["norm_groups"])
    y = references.pointwise(maps[-1].flatten(2), state, "embedding").unflatten(2, maps[-1].shape[2:])
    transformer = references.below(state, "transformer")
    if transformer:
        y = slow.vision_transformer(y, transformer, SMALL["num_heads"], kwargs.get("position_embedding") == "rotary")
    y = references.convolve(y, state["bottleneck.conv.weight"])
    y = references.normalise(y, state, "bottleneck.adn.N").clamp(min=0)
    outputs = []
    for i, skip in enumerate([*maps[-2::-1], *[None] * kwargs.get("root_level", 1)]):
        grid = size if skip is None else skip.shape[2:]
        y = slow.up_block(y, grid, skip, references.below(state, f"decoder.{i}"))
        outputs.append(y)
    column = (-1, *(1,) * len(size))
    logits = [references.convolve(y, state["head.weight"]) + state["head.bias"].view(column)]
    for i, y in reversed(list(enumerate(outputs[:-1]))):
        if f"auxiliary_heads.{i}.weight" in state:
            auxiliary = references.pointwise(y.flatten(2), state, f"auxiliary_heads.{i}").unflatten(2, y.shape[2:])
            logits.append(references.resize(auxiliary, size))
    return torch.stack(logits, dim=1)


CASES = {
    "3d": ((16, 8, 24), {}, [(2, 2, 2)] * 3),
    "2d": ((16, 24), {}, [(2, 2)] * 3),
    "stride of one": ((4, 8, 12), {"strides": (1, 2, 2)}, [(1, 1, 1), (2, 2, 2), (2, 2, 2)]),
    "root on the image grid": (
        (8, 4, 6),
        {"features": (4, 8, 16), "root_level": 0, "strides": [2, (2, 1, 1)], "kernel_size": [3, 3, 5]},
        [(1, 1, 1), (2, 2, 2), (2, 1, 1)],
    ),
    "anisotropic": (
        (5, 16, 12),
        {"strides": [(1, 2, 2), (1, 2, 1), (1, 1, 2)], "kernel_size": [(1, 3, 3), (1, 3, 3), 3, (3, 1, 5)]},
        [(1, 2, 2), (1, 2, 1), (1, 1, 2)],
    ),
    "three convolutions in the root": ((8, 16, 8), {"root_convolutions": 3}, [(2, 2, 2)] * 3),
    "rotary": ((8, 16, 8), {"position_embedding": "rotary"}, [(2, 2, 2)] * 3),
    "no positions": ((8, 16, 8), {"position_embedding": "none"}, [(2, 2, 2)] * 3),
    "no transformer": ((8, 16, 8), {"attention": ()}, [(2, 2, 2)] * 3),
    "other grid": ((8, 24, 8), {"token_grid": (2, 2, 5)}, [(2, 2, 2)] * 3),
}


@pytest.mark.parametrize(("size", "kwargs", "strides"), CASES.values(), ids=CASES.keys())
def test_equals_the_functional_forward(size, kwargs, strides):
    net = slow.use_exact_frequencies(randomised(TransUnet(len(size), 2, 3, **SMALL | kwargs), 0.3))
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    want = reference(x, net.state_dict(), strides, kwargs)[:, 0]
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


def test_deep_supervision_equals_the_functional_forward():
    net = randomised(TransUnet(3, 1, 3, **SMALL, deep_supervision=True), 0.3).train()
    x = torch.randn(1, 1, 16, 8, 8, dtype=torch.float64)
    want = reference(x, net.state_dict(), [(2, 2, 2)] * 3)
    assert want.shape == (1, 3, 3, 16, 8, 8)
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


def count(
    dims,
    f,
    n,
    out,
    units,
    layers,
    grid,
    *,
    root=1,
    convolutions=1,
    kernel=3,
    transformer=True,
    learned=True,
    deep=False,
):
    """Return the number of parameters by the formula of the docstring."""
    k, levels = kernel**dims, len(f)
    t = [0] * root + [f[root], *(2 * width for width in f[root + 1 :])]
    h = 3 * f[-1] // 2
    total = (3 * kernel - 2) ** dims * n * f[root] + 2 * f[root]
    if convolutions > 1:
        total = k * f[root] * (n + (convolutions - 1) * f[root]) + 2 * convolutions * f[root]
    for level in range(root + 1, levels):
        i, u = t[level] // 4, units[level - root - 1]
        total += u * (k * i**2 + i * t[level] + 4 * i + 2 * t[level]) + i * (t[level - 1] + (u - 1) * t[level])
        total += 0 if level == root + 1 and t[root] == t[level] else t[level - 1] * t[level] + 2 * t[level]
    total += (t[-1] + 1) * h
    if transformer:
        total += layers * (12 * h**2 + 13 * h) + 2 * h + (h * prod(grid) if learned else 0)
    total += k * h * f[-1] + 2 * f[-1]
    total += sum(k * f[i] * (f[i + 1] + t[i] + f[i]) + 4 * f[i] for i in range(levels - 1))
    total += (3**dims * f[0] + 1) * out
    return total + (sum((f[i] + 1) * out for i in range(1, levels - 1)) if deep else 0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("kwargs", "rest"),
    [
        ({}, {}),
        ({"kernel_size": 5}, {"kernel": 5}),
        ({"root_convolutions": 2}, {"convolutions": 2}),
        ({"attention": ()}, {"transformer": False}),
        ({"position_embedding": "rotary"}, {"learned": False}),
        ({"deep_supervision": True}, {"deep": True}),
        ({"features": (4, 16, 8, 32)}, {}),
        ({"features": (4, 8, 16), "root_level": 0}, {"root": 0}),
    ],
    ids=["default", "kernel", "root-convolutions", "identity", "rotary", "deep", "no-first-shortcut", "root"],
)
def test_parameter_count(dims, kwargs, rest):
    arguments = {"features": (4, 8, 16, 32), "num_units": (2, 1), "num_layers": 3, "num_heads": 4}
    arguments |= {"token_grid": (2, 3, 4)[:dims]} | kwargs
    net = TransUnet(dims, 2, 5, **arguments)
    want = count(dims, arguments["features"], 2, 5, (2, 1), 3, arguments["token_grid"], **rest)
    assert sum(p.numel() for p in net.parameters()) == want


def test_parameter_count_at_the_scale_of_the_paper():
    with torch.device("meta"):
        net = TransUnet(3, 1, 3)
    want = count(3, (16, 64, 128, 256, 512), 1, 3, (3, 4, 9), 12, (6, 6, 6))
    assert sum(p.numel() for p in net.parameters()) == want == 132_091_283
    assert net.embedding.weight.shape[:2] == (768, 1024)


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((1, 1, 48, 64, 48), {}),
        ((2, 1, 32, 32, 32), {}),
        ((1, 1, 96, 96, 96), {}),
        ((1, 1, 16, 80, 32), {}),
        (
            (1, 1, 12, 96, 96),
            {"strides": [(1, 2, 2), (1, 2, 2), 2, 2], "kernel_size": [(1, 3, 3), (1, 3, 3), 3, 3, 3]},
        ),
    ],
    ids=["48x64x48", "batch of two", "96", "unseen", "anisotropic"],
)
def test_forward_and_backward_at_any_size(shape, kwargs):
    torch.manual_seed(0)
    features = {"features": (4, 8, 8, 16, 32), "num_units": (1, 1, 1), "num_layers": 1}
    net = TransUnet(**features, **kwargs)
    net(torch.randn(shape)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_transformer_is_built_as_asked():
    kinds = [[type(m) for m in TransUnet(**SMALL, attention=parts).modules()] for parts in ((), ("transformer",))]
    assert [kind.count(VisionTransformer) for kind in kinds] == [0, 1]


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
    "levels": ({"features": (8, 16)}, r"features must name at least 3 levels, got \(8, 16\); add a level"),
    "root": ({"root_level": 2}, "root_level must be 0 or 1, got 2; use 0 for a skip on the image grid"),
    "root-convolutions": ({"root_convolutions": 0}, "root_convolutions must be at least 1, got 0; use 1 for the paper"),
    "deep": (
        {"features": (4, 8), "num_units": (1,), "root_level": 0, "deep_supervision": True},
        r"features must name at least 3 levels, got \(4, 8\); add a level",
    ),
    "attention": ({"attention": ("gate",)}, r"attention must hold only \('transformer',\), got \['gate'\]; leave out"),
    "strides": ({"strides": (2, 2)}, r"strides must have 3 entries .* got 2: \(2, 2\)"),
    "kernel-number": ({"kernel_size": (3, 3)}, r"kernel_size must have 4 entries .* got 2"),
    "kernel-even": ({"kernel_size": 2}, r"kernel_size must be odd and positive, got"),
    "units": ({"num_units": (1, 1, 1)}, r"num_units must be 2 positive integers .* got \(1, 1, 1\); give one"),
    "heads": (
        {"num_heads": 5},
        "num_heads must divide the width of the tokens, .* 24, got 5; use one of 1, 2, 3, 4",
    ),
    "positions": ({"position_embedding": "sine"}, "position_embedding must be one of .* got 'sine'; choose one"),
    "grid": ({"token_grid": (2, 2)}, r"token_grid must be a positive integer or 3 positive integers, got \(2, 2\)"),
    "layers": ({"num_layers": 0}, "num_layers must be at least 1, got 0; leave the transformer out instead"),
    "width": ({"features": (4, 6, 8, 15)}, r"features must be even below the root, got \(8, 15\); use \(8, 16\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TransUnet(**SMALL | kwargs)
