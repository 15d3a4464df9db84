"""NonLocal against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.attention import NonLocal
from tests.modules import randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle

INSTANCE = ("instance", {"affine": True})
BATCH = "batch"


@pytest.mark.parametrize("norm", [INSTANCE, BATCH, None], ids=["instance", "batch", "no-norm"])
@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (5, 4)], ids=str)
@pytest.mark.parametrize("pool", [1, 2, 3, "anisotropic"], ids=lambda p: f"pool-{p}")
@pytest.mark.parametrize(("reduction", "key_reduction"), [(2, None), (2, 4), (8, 1)])
def test_equals_the_formula(norm, size, pool, reduction, key_reduction):
    factors = (1, 2, 3)[: len(size)] if pool == "anisotropic" else (pool,) * len(size)
    module = NonLocal(len(size), 8, reduction=reduction, key_reduction=key_reduction, pool=factors, norm=norm)
    module = randomised(module)
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    want = references.non_local(x, module.state_dict(), factors)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("key_reduction", [None, 8])
@pytest.mark.parametrize("pool", [1, 2])
def test_the_map_is_not_stored_in_training(pool, key_reduction):
    module, x = NonLocal(3, 16, pool=pool, key_reduction=key_reduction), torch.randn(1, 16, 16, 16, 16)
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        module.train()(x)
    assert 0 < max(sizes) <= x.numel()


@pytest.mark.parametrize("dims", [2, 3])
def test_starts_as_the_identity(dims):
    x = torch.randn(2, 8, *(4, 3, 5)[:dims])
    for norm in (INSTANCE, BATCH, None):
        assert torch.equal(NonLocal(dims, 8, norm=norm)(x), x)


def test_attention_map_rows_are_the_weights():
    module = randomised(NonLocal(3, 8, norm=None))
    x = torch.randn(2, 8, 4, 5, 6, dtype=torch.float64)
    weights = module.attention_map(x)
    assert weights.shape == (2, 4 * 5 * 6, 2 * 2 * 3)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 120, dtype=torch.float64))
    g = references.max_pool(module.g(x), (2, 2, 2)).flatten(2)
    y = torch.einsum("bnm,bvm->bvn", weights, g).reshape(2, 4, 4, 5, 6)
    torch.testing.assert_close(module(x), x + module.W(y))


@pytest.mark.parametrize(
    ("pool", "example", "sizes"),
    [
        (2, (3, 4, 6), [(2, 2, 2), (7, 6, 3), (2, 3, 5)]),
        (3, (3, 4, 6), [(3, 3, 3), (4, 6, 9), (6, 3, 4)]),
        ((2, 1, 3), (5, 2, 3), [(2, 3, 5), (4, 2, 7)]),
        ((2, 2, 3), (1, 4, 6), [(1, 3, 5), (1, 5, 7)]),
    ],
    ids=["cube", "three", "anisotropic", "slab"],
)
def test_export_does_not_remember_the_example(pool, example, sizes):
    module = randomised(NonLocal(3, 8, pool=pool, norm=None)).float()  # a norm would hide a constant error
    axes = {i: torch.export.Dim.DYNAMIC for i, size in enumerate((2, 8, *example)) if i != 1 and size > 1}
    exported = torch.export.export(module, (torch.randn(2, 8, *example),), dynamic_shapes=(axes,)).module()
    for size in sizes:
        x = torch.randn(1, 8, *size)
        torch.testing.assert_close(exported(x), module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("reduction", "key_reduction"), [(2, None), (2, 8), (32, 4)])
@pytest.mark.parametrize("norm", [INSTANCE, None], ids=["norm", "no-norm"])
def test_parameter_count(dims, reduction, key_reduction, norm):
    c = 16
    v = max(1, c // reduction)
    k = v if key_reduction is None else max(1, c // key_reduction)
    module = NonLocal(dims, c, reduction=reduction, key_reduction=key_reduction, norm=norm)
    want = 2 * (c + 1) * k + (c + 1) * v + (v + 1) * c + (0 if norm is None else 2 * c)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "reduction": ({"reduction": 0}, "reduction must be at least 1, got 0; use 1"),
    "key-reduction": ({"key_reduction": -2}, "key_reduction must be at least 1, got -2; use 1"),
    "pool-zero": ({"pool": 0}, r"pool must be .* got 0; use for example \(2, 2, 2\)"),
    "pool-axes": ({"pool": (2, 2)}, r"pool must be .* got \(2, 2\)"),
    "norm": ({"norm": "instance"}, "norm must have a learned scale for a non-local .* got 'instance'; use"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NonLocal(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


def _renamed(state: dict, sequential_w: bool) -> dict:
    """Drop the suffixes that the original's pooling adds, and give W the one that ours has."""
    renamed = {}
    for key, value in state.items():
        name = key.replace("phi.0.", "phi.").replace("g.0.", "g.")
        renamed[name if sequential_w else name.replace("W.", "W.0.")] = value
    return renamed


@pytest.mark.parametrize("dims", [2, 3])
def test_original_2d_with_pooling_and_batch_norm(oracle, dims):
    reference = oracle("nonlocal_2d_sub")
    pool = (2, 2) if dims == 2 else (1, 2, 2)
    module = NonLocal(dims, 8, pool=pool, norm=BATCH)
    compare_with_oracle(module, reference, lambda s: _renamed(s, sequential_w=True), lifted=dims == 3)


def test_original_3d_without_pooling_and_norm(oracle):
    module = NonLocal(3, 8, pool=1, norm=None)
    compare_with_oracle(module, oracle("nonlocal_3d_nosub_nobn"), lambda s: _renamed(s, sequential_w=False))


class _NoteOne(nn.Module):
    """The block of source note 1: convolution, batch norm and ReLU before the non-local block."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.conv = (nn.Conv2d, nn.Conv3d)[dims - 2](12, 16, 1)
        self.bn = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](16)
        self.block = NonLocal(dims, 16, reduction=2, key_reduction=8, norm=None, pool=(1, 2, 2)[3 - dims :])

    def forward(self, x):
        return self.block(torch.relu(self.bn(self.conv(x))))


@pytest.mark.parametrize("dims", [2, 3])
def test_original_of_source_note_1(oracle, dims):
    def names(state: dict) -> dict:
        state = _renamed(state, sequential_w=False)
        return {k if k.startswith(("conv.", "bn.")) else f"block.{k}": v for k, v in state.items()}

    compare_with_oracle(_NoteOne(dims), oracle("note1_nonlocal_2d"), names, lifted=dims == 3)
