"""PositionEmbedding against explicit interpolation of its table and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from custom_networks.blocks import PositionEmbedding
from tests import harness
from tests.modules import randomised
from tests.references import transformer as transformer_references


def _case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return PositionEmbedding(dims, 6, (3, 4, 2)[:dims], **kwargs)

    shape = (6, 4, 6, 5)[: dims + 1]
    return harness.Case.of(
        f"position_embedding-{dims}d", build, PositionEmbedding, shape, out_channels=6, part_of="TransUnet"
    )


CHECKS = (*harness.MODULE_CHECKS, harness.check_contract, harness.check_unit_and_odd_axes)


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)], CHECKS))
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize(
    ("grid", "size"),
    [((3, 4, 2), (6, 8, 4)), ((4, 5, 6), (3, 7, 2)), ((1, 4, 3), (5, 1, 3)), ((4, 5), (7, 3))],
    ids=str,
)
def test_equals_the_formula(grid, size):
    module = randomised(PositionEmbedding(len(grid), 3, grid))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    want = transformer_references.position_embedding(x, module.state_dict())
    torch.testing.assert_close(module(x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grid", [(3, 4, 2), (5, 3)], ids=str)
def test_adds_the_table_itself_on_its_own_grid(grid):
    module = randomised(PositionEmbedding(len(grid), 3, grid)).float()
    x = torch.randn(2, 3, *grid)
    assert torch.equal(module(x), x + module.table)


def test_changes_nothing_at_initialisation():
    x = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(PositionEmbedding(3, 3, 2)(x), x)


def _ramp(size: tuple[int, ...]) -> Tensor:
    """One channel per axis: how far along that axis the centre of the token lies, from 0 to 1."""
    centres = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in size]
    return torch.stack(torch.meshgrid(*centres, indexing="ij"))[None]


@pytest.mark.parametrize("size", [(9, 8, 7), (8, 12, 10), (2, 3, 3)], ids=str)
def test_a_linear_table_stays_linear_between_its_outermost_centres(size):
    grid = (4, 6, 5)
    module = PositionEmbedding(3, 3, grid).double()
    with torch.no_grad():
        module.table.copy_(_ramp(grid))
    want = _ramp(size)
    got = module(torch.zeros_like(want))
    for axis, n in enumerate(grid):
        # beyond the outermost centres the table is constant
        expected = want[:, axis].clamp(0.5 / n, 1 - 0.5 / n)
        torch.testing.assert_close(got[:, axis], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("grid", "count"), [(3, 27), ((2, 3, 4), 24)])
def test_parameter_count(grid, count):
    assert sum(p.numel() for p in PositionEmbedding(3, 5, grid).parameters()) == 5 * count


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "axes": (
        {"token_grid": (2, 2)},
        r"token_grid must be a positive integer or 3 positive integers, got \(2, 2\); use",
    ),
    "empty": ({"token_grid": (2, 0, 2)}, r"token_grid must be .* got \(2, 0, 2\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PositionEmbedding(**{"spatial_dims": 3, "in_channels": 4, "token_grid": 2} | kwargs)
