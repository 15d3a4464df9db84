"""EfficientMultiHeadSelfAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from custom_networks.attention.efficient_multi_head_self_attention import EfficientMultiHeadSelfAttention
from tests.modules import on_tokens, randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Window m of an axis covers the voxels m s - s // 2 to m s - s // 2 + s; those outside count as zero."""
    size = x.shape[2:]
    y = x.new_empty(*x.shape[:2], *(math.ceil(n / s) for n, s in zip(size, strides, strict=True)))
    for cell in itertools.product(*map(range, y.shape[2:])):
        total = bias.expand(len(x), -1)
        for tap in itertools.product(*map(range, weight.shape[2:])):
            at = [c * s - (s // 2) + t for c, s, t in zip(cell, strides, tap, strict=True)]
            if all(0 <= a < n for a, n in zip(at, size, strict=True)):
                total = total + weight[(slice(None), 0, *tap)] * x[(..., *at)]
        y[(..., *cell)] = total
    return y


def reference_map(x: Tensor, state: dict[str, Tensor], num_heads: int, strides: tuple[int, ...]) -> tuple:
    """IN(softmax_j(sum_g T_hg q_gi . k_gj / sqrt d)), and the values."""
    reduced = x.flatten(2)
    if "reduce.weight" in state:
        reduced = depthwise(x, state["reduce.weight"], state["reduce.bias"], strides).flatten(2)
        centred = reduced - reduced.mean(1, keepdim=True)
        reduced = centred / ((centred**2).mean(1, keepdim=True) + 1e-5).sqrt()
        reduced = reduced * state["reduced_norm.weight"][:, None]
        if "reduced_norm.bias" in state:
            reduced = reduced + state["reduced_norm.bias"][:, None]
    q = references.projected(x, state, "query", num_heads)
    k = references.projected(reduced, state, "key", num_heads)
    logits = torch.einsum("bgdn,bgdm->bgnm", q, k) / q.shape[2] ** 0.5
    if "transform" in state:
        logits = torch.einsum("hg,bgnm->bhnm", state["transform"], logits)
    weights = references.softmax(logits, -1)
    if "transform" in state:
        weights = weights - weights.mean((2, 3), keepdim=True)
        weights = weights / ((weights**2).mean((2, 3), keepdim=True) + 1e-5).sqrt()
    return weights, references.projected(reduced, state, "value", num_heads)


def reference(x: Tensor, state: dict[str, Tensor], num_heads: int, strides: tuple[int, ...]) -> Tensor:
    weights, v = reference_map(x, state, num_heads, strides)
    heads = torch.cat(torch.einsum("bhnm,bhdm->bhdn", weights, v).unbind(1), dim=1)
    return references.pointwise(heads, state, "output").reshape(x.shape)


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize("reduction", [1, 2, 3, 4, (1, 2, 3)], ids=str)
@pytest.mark.parametrize("transform", [True, False], ids=["transform", "plain"])
def test_equals_the_formula(size, reduction, transform):
    strides = (reduction,) * len(size) if isinstance(reduction, int) else reduction[: len(size)]
    module = EfficientMultiHeadSelfAttention(len(size), 8, reduction=strides, transform=transform)
    module = randomised(module)
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict(), 4, strides), rtol=1e-10, atol=1e-10)
    want = reference_map(x, module.state_dict(), 4, strides)[0]
    torch.testing.assert_close(module.attention_map(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("channels", "num_heads", "head_channels"), [(10, 5, None), (6, 1, None), (10, 4, 3)], ids=["five", "one", "width"]
)
def test_heads(channels, num_heads, head_channels):
    module = EfficientMultiHeadSelfAttention(3, channels, num_heads=num_heads, head_channels=head_channels)
    module = randomised(module)
    assert (module.transform is None) == (num_heads == 1)
    x = torch.randn(2, channels, 4, 3, 5, dtype=torch.float64)
    want = reference(x, module.state_dict(), num_heads, (2, 2, 2))
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transform", [True, False], ids=["transform", "plain"])
def test_memory_stored_in_training(transform):
    module, x = EfficientMultiHeadSelfAttention(3, 16, transform=transform), torch.randn(1, 16, 8, 8, 8)
    stored = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: stored.setdefault(t.data_ptr(), t), lambda t: t):
        module.train()(x)
    maps = [t for t in stored.values() if t.numel() >= 4 * 512 * 64]
    assert len(maps) == transform


def test_export_does_not_remember_the_example():
    module = randomised(EfficientMultiHeadSelfAttention(3, 8, reduction=(2, 3, 1))).float()
    axes = dict.fromkeys((0, 2, 3, 4), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(module, (torch.randn(2, 8, 4, 5, 6),), dynamic_shapes=(axes,)).module()
    for size in [(3, 4, 2), (4, 7, 3), (3, 6, 5)]:
        x = torch.randn(1, 8, *size)
        torch.testing.assert_close(exported(x), module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "taps"),
    [
        ({}, 27),
        ({"reduction": (1, 2, 3)}, 12),
        ({"reduction": 1}, None),
        ({"transform": False}, 27),
        ({"transform": False, "reduction": 1}, None),
    ],
    ids=["default", "anisotropic", "unreduced", "plain", "plain-unreduced"],
)
def test_parameter_count(kwargs, taps):
    c, h = 16, 4
    module = EfficientMultiHeadSelfAttention(3, c, **kwargs)
    want = (4 * c + 1) * c + c + (0 if taps is None else (taps + 2) * c)
    want += h * h if kwargs.get("transform", True) else c + (0 if taps is None else c)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "heads": ({"in_channels": 10}, "num_heads must divide in_channels 10, got 4; use one of 1, 2, 5, 10"),
    "no-heads": ({"num_heads": 0, "head_channels": 4}, "num_heads and head_channels must be .* got 0 and 4; use"),
    "reduction": ({"reduction": (2, 2)}, r"reduction must be .* got \(2, 2\); use for example \(2, 2, 2\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EfficientMultiHeadSelfAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("reduction", [1, 2])
def test_original(oracle, dims, reduction):
    strides = (1, reduction, reduction)[-dims:]
    module = EfficientMultiHeadSelfAttention(dims, 16, num_heads=4, head_channels=8, reduction=strides)
    names = {"fc_q": "query", "fc_k": "key", "fc_v": "value", "fc_o": "output", "sr_conv": "reduce"}
    names["sr_ln"] = "reduced_norm"
    # The first two cancel in the softmax, the others in the norm: their stored gradients are rounding.
    cancelling = {"transform.conv.bias", "fc_k.bias", "fc_v.bias", "sr_ln.bias"}

    def renamed(state: dict) -> dict:
        ours = {}
        for key in state.keys() - cancelling:
            value = state[key]
            name, _, kind = key.partition(".")
            if name != "transform":
                ours[f"{names[name]}.{kind}"] = value
            elif kind == "conv.weight":
                ours["transform"] = value.flatten(1)
        return ours

    reference = oracle(f"emsa_r{reduction}_transform")
    for key in cancelling & reference["grad_params_eval"].keys():
        assert reference["grad_params_eval"][key].abs().max() < 1e-4
    forward = on_tokens(module, dims)
    compare_with_oracle(module, reference, renamed, forward=forward, lifted=dims == 3, gradient_tolerance=2e-4)
