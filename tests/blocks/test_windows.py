"""Windows against slices of the map, one by one, and back."""

from __future__ import annotations

import pytest
import torch

from custom_networks.blocks import fold_windows, unfold_windows
from tests.references import axial as axial_references

CASES = {
    "2d": ((4, 6), (2, 2), (2, 3)),
    "cut off": ((3, 6, 5), (2, 2, 3), (2, 3, 2)),
    "one": ((4, 2, 3), (1, 1, 1), (4, 2, 3)),
    "one that is larger": ((4, 2, 3), (1, 1, 1), (4, 4, 8)),
    "of border alone": ((3, 5), (1, 4), (3, 2)),
}


@pytest.mark.parametrize(("size", "counts", "window"), CASES.values(), ids=CASES.keys())
def test_windows_and_back(size, counts, window):
    x = torch.randn(2, 3, *size)
    before = x.clone()
    folded = fold_windows(x, list(counts), list(window))
    if all(n * w < s + w for s, n, w in zip(size, counts, window, strict=True)):
        want = torch.cat([content for _, content in axial_references.windows(x, window)])
        assert torch.equal(folded, want)
    assert folded.shape == (2 * torch.Size(counts).numel(), 3, *window)
    assert torch.equal(unfold_windows(folded, list(counts), list(size)), x)
    assert torch.equal(x, before)


def test_beyond_the_border_the_last_voxel_is_repeated():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    want = torch.tensor([[[0, 1], [3, 4], [3, 4]], [[2, 2], [5, 5], [5, 5]], [[2, 2], [5, 5], [5, 5]]])
    assert torch.equal(fold_windows(x, [1, 3], [3, 2])[:, 0], want.float())


def test_the_window_is_the_slowest_index_of_the_batch():
    x = torch.stack([torch.arange(4.0), 10 + torch.arange(4.0)]).view(2, 1, 1, 4)
    assert fold_windows(x, [1, 2], [1, 2])[:, 0, 0].tolist() == [[0, 1], [10, 11], [2, 3], [12, 13]]


@pytest.mark.parametrize(("size", "counts", "window"), CASES.values(), ids=CASES.keys())
def test_every_voxel_gets_the_gradients_of_its_copies(size, counts, window):
    x = torch.randn(1, 2, *size, requires_grad=True)
    folded = fold_windows(x, list(counts), list(window))
    folded.sum().backward()
    copies = torch.stack([(folded[:, 0] == value).sum() for value in x[0, 0].flatten()]).view(size)
    assert torch.equal(x.grad[0, 0], copies.float())
    y = torch.randn(folded.shape, requires_grad=True)
    unfold_windows(y, list(counts), list(size)).sum().backward()
    assert set(y.grad.unique().tolist()) <= {0.0, 1.0}
    assert y.grad.sum() == x.numel()
