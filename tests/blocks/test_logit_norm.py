"""LogitNorm and its moments against the maps of the logits, which it never makes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from custom_networks.blocks.logit_norm import LogitNorm, pair_moments, table_moments
from tests.modules import randomised
from tests.references import axial as axial_references

INSTANCE = ("instance", {"affine": True})
SAMPLES, LINES, GROUPS, LENGTH, WIDTH = 6, 3, 2, 5, 4


def _drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of every map ``(N, L, L)`` by loops over its entries."""
    means, variances = [], []
    for one in maps:
        entries = [one[i, j] for i, j in itertools.product(range(one.shape[0]), range(one.shape[1]))]
        mean = sum(entries) / len(entries)
        means.append(mean)
        variances.append(sum((entry - mean) ** 2 for entry in entries) / len(entries))
    return torch.stack(means), torch.stack(variances)


@pytest.mark.parametrize(("length", "width"), [(5, 3), (1, 2), (2, 1)])
def test_moments_equal_those_of_the_maps(length, width):
    queries, keys = _drawn(3, length, width) + 2, _drawn(3, length, width) - 1
    table = _drawn(length, length, width) + 1
    for got, maps in (
        (pair_moments(queries, keys), torch.einsum("nic,njc->nij", queries, keys)),
        (table_moments(queries, table), torch.einsum("nic,ijc->nij", queries, table)),
    ):
        for one, other in zip(got, _moments(maps), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_moments_keep_their_digits_where_the_means_are_large():
    """In float32, of values ten thousand times as far from zero as from each other."""
    queries, keys, table = (1e4 + _drawn(*shape) for shape in ((4, 6, 3), (4, 6, 3), (6, 6, 3)))
    for function, values in ((pair_moments, (queries, keys)), (table_moments, (keys, table))):
        variance = function(*(value.float() for value in values))[1]
        torch.testing.assert_close(variance.double(), function(*values)[1], rtol=1e-2, atol=0)


def _inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return queries and keys, samples apart in mean and spread, and tables of which no two rows are alike."""
    scale = torch.arange(1, SAMPLES + 1, dtype=torch.float64).repeat_interleave(LINES * GROUPS).view(-1, 1, 1)
    shape = (SAMPLES * LINES * GROUPS, LENGTH, WIDTH)
    tables = (_drawn(LENGTH, LENGTH, WIDTH) for _ in range(2))
    return _drawn(*shape) * scale + scale, _drawn(*shape) - scale, *tables


def _maps(queries: Tensor, keys: Tensor, query_table: Tensor | None, key_table: Tensor | None) -> Tensor:
    """Return the parts of the logits as a batch norm wants them, ``(samples, parts g, lines, L, L)``."""
    parts = [torch.einsum("nic,njc->nij", queries, keys)]
    if query_table is not None:
        parts.append(torch.einsum("nic,ijc->nij", queries, query_table))
        parts.append(torch.einsum("njc,jic->nij", keys, key_table))
    maps = torch.stack([part.view(SAMPLES, LINES, GROUPS, LENGTH, LENGTH) for part in parts])
    return maps.permute(1, 0, 3, 2, 4, 5).flatten(1, 2)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("norm", ["batch", ("batch", {"affine": False}), INSTANCE, "instance"], ids=str)
def test_scales_are_those_of_normalised_maps(norm, gated, positions, training):
    """Of two logits of one row, which differ by the scale times what the maps differ by."""
    module = randomised(LogitNorm(GROUPS, positions=positions, norm=norm)).train(training)
    state = {f"norm.{name}": value.clone() for name, value in module.state_dict().items()}
    queries, keys, *tables = _inputs()
    if not positions:
        tables = [None, None]
    gates = torch.tensor([0.3, 2.0], dtype=torch.float64) if gated and positions else None
    got = module(queries, keys, *tables, gates, SAMPLES, LINES)
    sets = 1 if module.batch else SAMPLES
    assert got.shape == (sets, 3 if positions else 1, GROUPS)

    maps = _maps(queries, keys, *tables)
    factors = torch.ones(maps.shape[1], dtype=torch.float64)
    if gates is not None:
        factors[GROUPS:] = gates.repeat_interleave(GROUPS)
    want = axial_references.normalise(maps * factors.view(-1, 1, 1, 1), state, "norm", training)
    scale = got.flatten(1).repeat_interleave(SAMPLES // sets, dim=0).view(SAMPLES, -1, 1, 1, 1)
    torch.testing.assert_close((scale * maps).diff(dim=-1), want.diff(dim=-1), rtol=1e-9, atol=1e-9)
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(buffer, state[f"norm.{name}"], rtol=1e-9, atol=1e-9, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("norm", ["batch", INSTANCE], ids=["batch", "instance"])
def test_gradients_are_those_of_normalised_maps(norm):
    module = randomised(LogitNorm(GROUPS, norm=norm)).train()
    state = {f"norm.{name}": value.clone() for name, value in module.state_dict().items()}
    values = [value.requires_grad_() for value in _inputs()]
    scale = module(*values, None, SAMPLES, LINES).expand(SAMPLES, 3, GROUPS).reshape(SAMPLES, -1, 1, 1, 1)
    maps = _maps(*values)
    got, want = (y.diff(dim=-1) for y in (scale * maps, axial_references.normalise(maps, state, "norm", True)))
    direction = torch.randn_like(want)
    mine, theirs = (torch.autograd.grad(y, values, direction, retain_graph=True) for y in (got, want))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)


def test_constant_logits_have_a_finite_scale():
    module = LogitNorm(GROUPS)
    zeros = torch.zeros(LINES * GROUPS, LENGTH, WIDTH, requires_grad=True)
    table = torch.zeros(LENGTH, LENGTH, WIDTH)
    scale = module(zeros, zeros, table, table, None, 1, LINES)
    torch.testing.assert_close(scale, torch.full_like(scale, module.eps**-0.5))
    scale.sum().backward()
    assert zeros.grad.isfinite().all()


def test_only_a_batch_norm_has_statistics_and_only_an_affine_one_weights():
    names = {"weight", "running_mean", "running_var", "num_batches_tracked"}
    assert set(LogitNorm(2, norm="batch").state_dict()) == names
    assert set(LogitNorm(2, norm=("batch", {"affine": False})).state_dict()) == names - {"weight"}
    assert set(LogitNorm(2, norm=INSTANCE).state_dict()) == {"weight"}
    assert not LogitNorm(2, norm="instance").state_dict()


def test_other_norms_are_refused():
    with pytest.raises(ValueError, match="norm must be a batch norm"):
        LogitNorm(2, norm=("group", {"num_groups": 2}))
