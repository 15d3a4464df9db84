"""Sampling through an affine map equals a loop over voxels, inside a volume, at its border and far from it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from custom_networks.workflow.transforms import affine_sampling
from custom_networks.workflow.transforms.affine_sampling import sample_affine


def reference(volume: np.ndarray, matrix: np.ndarray, size: tuple[int, ...], nearest: bool) -> np.ndarray:
    """Return the patch in float64, voxel by voxel."""
    patch = np.zeros((len(volume), *size))

    def at(*place: int) -> np.ndarray:
        inside = all(0 <= i < n for i, n in zip(place, volume.shape[1:], strict=True))
        return volume[(slice(None), *place)] if inside else np.zeros(len(volume))

    for voxel in np.ndindex(*size):
        place = matrix[:, :-1] @ voxel + matrix[:, -1]
        if nearest:
            patch[(slice(None), *voxel)] = at(*(int(i) for i in np.rint(place)))
            continue
        below = np.floor(place).astype(int)
        for corner in itertools.product((0, 1), repeat=len(size)):
            weight = np.prod(np.where(corner, place - below, 1 - (place - below)))
            patch[(slice(None), *voxel)] += weight * at(*(below + corner))
    return patch


def random_map(seed: int, dims: int, shift: float) -> torch.Tensor:
    """Return a map that turns and scales a little, without places that lie halfway between two voxels."""
    generator = torch.Generator().manual_seed(seed)
    linear = torch.eye(dims, dtype=torch.float64) + 0.3 * torch.randn(dims, dims, generator=generator).double()
    return torch.cat([linear, shift + torch.rand(dims, 1, generator=generator).double()], 1)


@pytest.mark.parametrize("slab", [1, 2**17])
@pytest.mark.parametrize("shift", [3.0, -2.0, 7.0, 40.0])
@pytest.mark.parametrize(("shape", "size"), [((9, 8, 7), (4, 5, 3)), ((1, 6, 2), (3, 3, 3)), ((9, 8), (5, 4))])
def test_it_equals_a_loop_over_voxels(shape, size, shift, slab, monkeypatch):
    monkeypatch.setattr(affine_sampling, "SLAB", slab)
    generator = np.random.default_rng(0)
    image = generator.normal(size=(2, *shape)).astype(np.float32)
    label = generator.integers(1, 5, (1, *shape)).astype(np.int16)
    for seed in range(5):
        matrix = random_map(seed, len(shape), shift)
        volumes = [torch.from_numpy(image), torch.from_numpy(label)]
        got = sample_affine(volumes, [False, True], matrix, size)
        assert got[0].dtype == got[1].dtype == torch.float32
        np.testing.assert_allclose(got[0], reference(image, matrix.numpy(), size, nearest=False), atol=1e-4)
        np.testing.assert_array_equal(got[1], reference(label, matrix.numpy(), size, nearest=True))


def test_it_equals_the_sampling_of_torch():
    image = torch.randn(1, 30, 20, 25, generator=torch.Generator().manual_seed(0))
    matrix, size = random_map(3, 3, 5.0), (12, 16, 11)
    voxels = torch.stack(torch.meshgrid(*(torch.arange(n).double() for n in size), indexing="ij"), -1)
    places = voxels @ matrix[:, :-1].T + matrix[:, -1]
    grid = ((2 * places + 1) / torch.tensor(image.shape[1:]) - 1).flip(-1).float()[None]
    (got,) = sample_affine([image], [False], matrix, size)
    torch.testing.assert_close(got, F.grid_sample(image[None], grid, align_corners=False)[0], atol=1e-4, rtol=0)


def test_a_volume_stays_as_it_is():
    image, label = torch.randn(1, 9, 9, 9), torch.ones(1, 9, 9, 9, dtype=torch.int16)
    before = image.clone()
    patches = sample_affine([image, label], [False, True], random_map(0, 3, 2.0), (4, 4, 4))
    for patch in patches:
        patch.fill_(7)
    assert torch.equal(image, before)
    assert bool((label == 1).all())
