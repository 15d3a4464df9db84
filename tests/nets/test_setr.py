"""Setr against a functional forward from its state dict, and its own documentation."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor

from custom_networks.nets import Setr
from tests.modules import randomised
from tests.references import layers as references
from tests.references import transformer as slow

SMALL = {"features": (4, 6, 24), "num_layers": 2, "num_heads": 3}


def reference(x: Tensor, state: references.State, strides: list[tuple[int, ...]], rotary: bool = False) -> Tensor:
    """Return the logits of every decoder level on the input grid, finest first: ``(B, levels, C, *S)``."""
    size = x.shape[2:]
    y = references.patches(x, state["embedding.weight"])
    y = y + state["embedding.bias"].view(-1, *(1,) * len(size))
    transformer = references.below(state, "transformer")
    y = slow.vision_transformer(y, transformer, SMALL["num_heads"], rotary) if transformer else y
    outputs = []
    for i, steps in enumerate(reversed(strides)):
        y = references.convolve(y, state[f"decoder.{i}.conv.weight"])
        y = references.normalise(y, state, f"decoder.{i}.adn.N").clamp(min=0)
        y = references.resize(y, [n * step for n, step in zip(y.shape[2:], steps, strict=True)])
        outputs.append(y)
    logits = []
    heads = [f"auxiliary_heads.{i}" for i in range(len(outputs) - 1)] + ["head"]
    for y, head in zip(outputs, heads, strict=True):
        if f"{head}.weight" in state:
            flat = references.pointwise(y.flatten(2), state, head)
            logits.append(references.resize(flat.unflatten(2, y.shape[2:]), size))
    return torch.stack(logits[::-1], dim=1)


CASES = {
    "3d": ((8, 4, 12), {}, [(2, 2, 2)] * 2),
    "2d": ((8, 12), {}, [(2, 2)] * 2),
    "anisotropic": (
        (3, 8, 12),
        {"strides": [(1, 2, 2), (1, 2, 3)], "kernel_size": [(1, 3, 3), (3, 1, 5)]},
        [(1, 2, 2), (1, 2, 3)],
    ),
    "rotary": ((4, 8, 4), {"position_embedding": "rotary"}, [(2, 2, 2)] * 2),
    "no positions": ((4, 8, 4), {"position_embedding": "none"}, [(2, 2, 2)] * 2),
    "no transformer": ((4, 8, 4), {"attention": ()}, [(2, 2, 2)] * 2),
}


@pytest.mark.parametrize(("size", "kwargs", "strides"), CASES.values(), ids=CASES.keys())
def test_equals_the_functional_forward(size, kwargs, strides):
    rotary = kwargs.get("position_embedding") == "rotary"
    net = slow.use_exact_frequencies(randomised(Setr(len(size), 2, 3, **SMALL | kwargs), 0.3))
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    want = reference(x, net.state_dict(), strides, rotary)[:, 0]
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


def test_deep_supervision_equals_the_functional_forward():
    net = randomised(Setr(3, 1, 3, **SMALL, deep_supervision=True), 0.3).train()
    x = torch.randn(1, 1, 8, 4, 8, dtype=torch.float64)
    want = reference(x, net.state_dict(), [(2, 2, 2)] * 2)
    assert want.shape == (1, 2, 3, 8, 4, 8)
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("deep_supervision", [False, True], ids=["single", "deep"])
@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_parameter_count(dims, deep_supervision, positions):
    f, grid = (4, 8, 16, 36), (2, 3, 4)[:dims]
    net = Setr(
        dims,
        2,
        5,
        features=f,
        num_layers=3,
        num_heads=3,
        position_embedding=positions,
        token_grid=grid,
        deep_supervision=deep_supervision,
    )
    h, k, p = f[-1], 3**dims, 8**dims
    want = (p * 2 + 1) * h + 3 * (12 * h**2 + 13 * h) + 2 * h + (h * prod(grid) if positions == "learned" else 0)
    want += sum(k * f[i] * f[i + 1] + 2 * f[i] for i in range(3)) + (f[0] + 1) * 5
    want += sum((f[i] + 1) * 5 for i in (1, 2)) if deep_supervision else 0
    assert sum(p.numel() for p in net.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
    "levels": ({"features": (24,)}, r"at least 2 levels .* got \(24,\); add a level"),
    "deep-two-levels": ({"features": (8, 24), "deep_supervision": True}, r"3 with deep_supervision.*got \(8, 24\)"),
    "attention": ({"attention": ("vit",)}, r"attention must hold only \('transformer',\), got \['vit'\]; leave out"),
    "strides": ({"strides": (2, 2, 2)}, r"strides must have 2 entries .* got 3"),
    "kernel": ({"kernel_size": (3, 3, 3)}, r"kernel_size must have 2 entries .* got 3"),
    "kernel-even": ({"kernel_size": 4}, "kernel_size must be odd and positive, got"),
    "heads": ({"num_heads": 5}, "num_heads must divide the last entry of features, 24, got 5"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Setr(**SMALL | kwargs)
