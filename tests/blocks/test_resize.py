"""resize against explicit linear interpolation, and crop."""

from __future__ import annotations

import pytest
import torch

from custom_networks.blocks import crop, resize
from tests.references import layers as references


@pytest.mark.parametrize(
    ("size", "target"),
    [((3, 4, 5), (6, 8, 10)), ((3, 4, 5), (7, 2, 5)), ((1, 2, 3), (4, 1, 7)), ((3, 4), (5, 9)), ((6, 5), (2, 1))],
    ids=str,
)
def test_equals_linear_interpolation(size, target):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(resize(x, target), references.resize(x, target), rtol=1e-12, atol=1e-12)


def test_same_size_changes_nothing():
    x = torch.randn(1, 2, 3, 4, 5)
    torch.testing.assert_close(resize(x, [3, 4, 5]), x)


@pytest.mark.parametrize(
    ("size", "target"), [((3, 4, 5), (3, 2, 4)), ((3, 4), (1, 4)), ((2, 2, 2), (2, 2, 2))], ids=str
)
def test_crop_keeps_the_first_voxels(size, target):
    x = torch.randn(2, 3, *size)
    want = x[(..., *(slice(0, n) for n in target))]
    assert torch.equal(crop(x, list(target)), want)
    assert crop(x, list(target)).data_ptr() == x.data_ptr()


def test_crop_to_more_than_there_is_fails():
    with pytest.raises(RuntimeError, match="exceeds dimension size"):
        crop(torch.zeros(1, 1, 2, 3), [2, 4])
