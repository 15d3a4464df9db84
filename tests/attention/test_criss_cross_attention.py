"""CrissCrossAttention against its formula and its own documentation."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from custom_networks.attention.criss_cross_attention import CrissCrossAttention
from tests.modules import randomised
from tests.references import layers as references


def path(voxel: tuple[int, ...], size: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Return the voxels that share all coordinates but one, and the voxel itself."""
    every = itertools.product(*map(range, size))
    return {other for other in every if sum(a != b for a, b in zip(voxel, other, strict=True)) <= 1}


def reference(x: Tensor, state: dict[str, Tensor], recurrence: int) -> Tensor:
    """x_i + sum_{j in P_i} softmax_{j in P_i}(q_i . k_j) v_j, voxel by voxel, again and again."""
    for _ in range(recurrence):
        q, k, v = (references.pointwise(x, state, name) for name in ("query", "key", "value"))
        y = x.clone()
        for voxel in itertools.product(*map(range, x.shape[2:])):
            others = path(voxel, x.shape[2:])
            keys = torch.stack([k[(..., *j)] for j in others], dim=-1)
            values = torch.stack([v[(..., *j)] for j in others], dim=-1)
            weights = references.softmax(torch.einsum("bd,bdj->bj", q[(..., *voxel)], keys), -1)
            y[(..., *voxel)] += torch.einsum("bj,bcj->bc", weights, values)
        x = y
    return x


@pytest.mark.parametrize("size", [(3, 4, 2), (3, 1, 5), (1, 1, 1), (1, 4, 1), (5, 4)], ids=str)
@pytest.mark.parametrize(("reduction", "recurrence"), [(8, 2), (1, 1), (4, 3)])
def test_equals_the_formula(size, reduction, recurrence):
    module = randomised(CrissCrossAttention(len(size), 8, reduction=reduction, recurrence=recurrence))
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict(), recurrence), rtol=1e-10, atol=1e-10)


def test_attention_map_are_the_weights_of_every_step():
    module = randomised(CrissCrossAttention(3, 8, recurrence=2))
    x = torch.randn(2, 8, 3, 2, 4, dtype=torch.float64)
    maps, want = module.attention_map(x), module(x)
    assert maps.shape == (2, 2, 3, 2, 4, 3 + 2 + 4)
    assert maps.min() >= 0
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 3, 2, 4, dtype=torch.float64))
    for voxel in itertools.product(range(3), range(2), range(4)):  # itself counts on the first axis only
        weights = maps[(slice(None), slice(None), *voxel)]
        assert (weights[..., voxel[0]] > 0).all()
        assert not weights[..., [3 + voxel[1], 5 + voxel[2]]].any()
    for step in range(2):
        v = references.pointwise(x, module.state_dict(), "value")
        x = x + (
            torch.einsum("bdhwj,bcjhw->bcdhw", maps[:, step, ..., :3], v)
            + torch.einsum("bdhwj,bcdjw->bcdhw", maps[:, step, ..., 3:5], v)
            + torch.einsum("bdhwj,bcdhj->bcdhw", maps[:, step, ..., 5:], v)
        )
    torch.testing.assert_close(x, want)


def test_large_logits_do_not_overflow():
    module, x = randomised(CrissCrossAttention(3, 8)).float(), 1e3 * torch.randn(1, 8, 3, 2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(x).isfinite().all()
    maps = module.attention_map(x)
    assert module(x).isfinite().all()
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]))


def test_the_weights_are_stored_once_in_training():
    module, x = CrissCrossAttention(3, 8, recurrence=1), torch.randn(1, 8, 16, 16, 16)
    stored = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: stored.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t
    ):
        module.train()(x)
    numbers = sum(t.untyped_storage().nbytes() for t in stored.values()) / 4
    assert numbers < 16**3 * (3 * 16 + 10 * 8)  # the rest are inputs, queries, keys and values


@pytest.mark.parametrize(("recurrence", "reach"), [(1, 1), (2, 2), (3, 3)])
def test_each_step_reaches_along_one_more_axis(recurrence, reach):
    module = randomised(CrissCrossAttention(3, 8, recurrence=recurrence))
    x = torch.randn(1, 8, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    module(x)[0, :, 1, 2, 3].sum().backward()
    reached = x.grad[0].abs().sum(0) > 0
    for voxel in itertools.product(range(3), range(4), range(5)):
        apart = sum(a != b for a, b in zip(voxel, (1, 2, 3), strict=True))
        assert reached[voxel] == (apart <= reach)


@pytest.mark.parametrize(("channels", "reduction"), [(16, 8), (12, 4), (4, 8)])
def test_parameter_count(channels, reduction):
    module = CrissCrossAttention(3, channels, reduction=reduction)
    want = (2 * channels + 1) * max(1, channels // reduction) + (channels + 1) * channels
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "reduction": ({"reduction": 0}, "reduction must be at least 1, got 0; use 1"),
    "recurrence": ({"recurrence": 0}, "recurrence must be at least 1, got 0; use for example 2"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CrissCrossAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)
