"""GlobalFilter against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import cmath
import math

import pytest
import torch

from custom_networks.attention.global_filter import GlobalFilter
from tests.modules import on_tokens, randomised
from tests.references.oracles import compare_with_oracle


def interpolation(n, grid, half):
    """Return the matrix that reads frequency k of n at k grid / n of a table."""
    count = n // 2 + 1 if half else n
    matrix = torch.zeros(count, grid // 2 + 1 if half else grid, dtype=torch.complex128)
    for k in range(count):
        position = k * grid / n
        low = math.floor(position + 1e-9)
        high = min(low + 1, grid // 2) if half else (low + 1) % grid
        matrix[k, low] += 1 - (position - low)
        matrix[k, high] += position - low
    return matrix


def along(x, matrix, axis):
    """Apply a matrix along an axis."""
    return torch.einsum("kj,...j->...k", matrix, x.movedim(axis, -1)).movedim(-1, axis)


def reference(x, weight, grid):
    """Sum the definition of the transforms; the last axis has the frequencies 0 to n/2, each for itself and -k."""
    x, table, dims = x.to(torch.complex128), torch.complex(weight[..., 0], weight[..., 1]), x.dim() - 2
    size, inverse = x.shape[2:], []
    for i, n in enumerate(size):
        half = i == dims - 1
        table = along(table, interpolation(n, grid[i], half), 1 + i)
        frequencies = range(n // 2 + 1 if half else n)
        waves = torch.tensor(
            [[cmath.exp(2j * math.pi * j * k / n) for j in range(n)] for k in frequencies], dtype=torch.complex128
        )
        x = along(x, waves.conj(), 2 + i)
        twice = torch.tensor([[2.0 if half and 0 < k < n / 2 else 1.0] for k in frequencies])
        inverse.append((waves * twice / n).T)
    x = x * table
    for i in range(dims):
        x = along(x, inverse[i], 2 + i)
    return x.real


SIZES = [
    ((4, 6, 5), (4, 6, 5)),
    ((3, 1, 7), (5, 2, 3)),
    ((8, 5, 6), (4, 4, 4)),
    ((2, 3, 4), (3, 7, 5)),
    ((1, 1, 1), (4, 4, 4)),
    ((5, 4), (14, 14)),
    ((1, 9), (1, 1)),
]


@pytest.mark.parametrize(("size", "grid_size"), SIZES, ids=str)
def test_equals_the_formula(size, grid_size):
    module = randomised(GlobalFilter(len(size), 3, grid_size=grid_size))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.weight, grid_size), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "grid_size"), SIZES, ids=str)
def test_the_matrices_for_onnx_are_the_same_transform(size, grid_size, monkeypatch):
    module = randomised(GlobalFilter(len(size), 3, grid_size=grid_size))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    want = module(x)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.delattr(torch.fft, "rfftn")  # the runtimes lack it
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


def test_shifting_the_input_shifts_the_output():
    module = randomised(GlobalFilter(3, 3, grid_size=4))
    x = torch.randn(2, 3, 4, 6, 5, dtype=torch.float64)
    shift = {"shifts": (1, -2, 3), "dims": (2, 3, 4)}
    torch.testing.assert_close(module(x.roll(**shift)), module(x).roll(**shift))


def test_a_filter_means_the_same_on_a_larger_map():
    module = randomised(GlobalFilter(3, 3, grid_size=5))
    x = torch.randn(2, 3, 4, 3, 5, dtype=torch.float64)
    tiles = (1, 1, 2, 3, 2)
    torch.testing.assert_close(module(x.repeat(tiles)), module(x).repeat(tiles))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_transformed_in_single(dtype):
    module = GlobalFilter(3, 3, grid_size=4).to(dtype)
    x = torch.randn(1, 3, 3, 5, 7).to(dtype)
    want = module.float()(x.float())
    got = module.to(dtype)(x)
    assert got.dtype == dtype
    torch.testing.assert_close(got, want.to(dtype))


def test_the_output_at_the_start_has_the_scale_of_the_input():
    for dims in (2, 3):
        y = GlobalFilter(dims, 32)(torch.randn(2, 32, *(14, 14, 14)[:dims]))
        assert 0.9 < y.std() < 1.1


@pytest.mark.parametrize(
    ("dims", "grid_size", "entries"), [(2, 14, 14 * 8), (3, 14, 14 * 14 * 8), (3, (1, 6, 5), 6 * 3), (3, (2, 3, 4), 18)]
)
def test_parameter_count(dims, grid_size, entries):
    module = GlobalFilter(dims, 16, grid_size=grid_size)
    assert sum(p.numel() for p in module.parameters()) == 2 * 16 * entries


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "zero": ({"grid_size": 0}, r"grid_size must be .* got 0; use for example \(2, 2, 2\)"),
    "axes": ({"grid_size": (4, 4)}, r"grid_size must be .* got \(4, 4\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GlobalFilter(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


@pytest.mark.parametrize("dims", [2, 3])
def test_original_on_tokens(oracle, dims):
    size = (1, 6, 5)[3 - dims :]
    module = GlobalFilter(dims, 16, grid_size=size)

    def names(state: dict) -> dict:
        names = {"complex_weight": "weight"}
        return {names[key]: value.permute(2, 0, 1, 3).reshape(module.weight.shape) for key, value in state.items()}

    compare_with_oracle(module, oracle("gfnet_filter_6x5"), names, forward=on_tokens(module, dims))
