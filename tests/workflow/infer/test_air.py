"""Air is found in images as scanners and normalisations leave it, and nowhere else."""

from __future__ import annotations

import math

import pytest
import torch

from custom_networks.workflow.infer import air as module
from custom_networks.workflow.infer.air import air_of, box_of, content_of, find_air, otsu_threshold

SIZE = (40, 36, 32)
HEAD = (slice(10, 30), slice(8, 28), slice(6, 26))


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def head(tissue: torch.Tensor, air: torch.Tensor | float) -> torch.Tensor:
    image = torch.zeros(SIZE) + air
    image[HEAD] = tissue
    return image


TISSUE = 300 + 60 * normal(20, 20, 20)
RAYLEIGH = torch.sqrt(normal(*SIZE, seed=1) ** 2 + normal(*SIZE, seed=2) ** 2)
FOUND = {
    "a masked head": head(TISSUE, 0.0),
    "a masked head in floats that were resampled": head(TISSUE, 1e-4 * normal(*SIZE, seed=3)),
    "the noise of MR": head(TISSUE, 10 * RAYLEIGH),
    "the noise of MR in integers": head(TISSUE, (4 * RAYLEIGH).round()),
    "air of CT": head(40 + 30 * normal(20, 20, 20), -1000 + 20 * normal(*SIZE, seed=4)),
    "clipped CT": head(40 + 30 * normal(20, 20, 20), -1000 + 20 * normal(*SIZE, seed=4)).clip(-900, 200),
    "zeros among normalised values": head(normal(20, 20, 20), 0.0),
}
NONE = {
    "a crop of tissue": 300 + 60 * normal(*SIZE),
    "a crop of two tissues": head(TISSUE, 150 + 30 * normal(*SIZE, seed=5)),
    "one value": torch.full(SIZE, 3.0),
    "bright voxels that are clipped": (300 + 60 * normal(*SIZE)).clip(max=330),
    "a crop of integers": (100 + 20 * normal(*SIZE)).round(),
}


@pytest.mark.parametrize("scaled", [False, True], ids=["as it is", "z-score"])
@pytest.mark.parametrize("image", FOUND.values(), ids=FOUND.keys())
def test_nothing_but_the_head_is_content(image, scaled):
    image = (image - image.mean()) / image.std() if scaled else image
    (found,) = find_air(image[None])
    content = content_of(image[None], [found])
    assert not content[image != image].any()
    outside = torch.ones(SIZE, dtype=torch.bool)
    outside[HEAD] = False
    assert not content[outside].any()
    assert content[HEAD].float().mean() > 0.95
    assert box_of(content) == HEAD


@pytest.mark.parametrize("image", NONE.values(), ids=NONE.keys())
def test_tissue_is_no_air(image):
    found = find_air(image[None])
    # one of the values of a crop may look like air, but no part of the image consists of it
    assert found is None or box_of(content_of(image[None], found)) == tuple(slice(0, n) for n in SIZE)
    for corner in (slice(0, 6), slice(-6, None)):
        assert found is None or content_of(image[None, corner, corner, corner], found).any()


def test_the_brightest_value_is_no_air():
    assert find_air(NONE["bright voxels that are clipped"][None]) is None


def test_a_voxel_is_air_where_every_channel_is():
    other = torch.zeros(SIZE)
    other[0, 0, 0] = 1
    image = torch.stack([head(TISSUE, 0.0), other])
    content = content_of(image, find_air(image))
    assert content[0, 0, 0]
    assert not content[1, 1, 1]
    assert find_air(torch.stack([head(TISSUE, 0.0), normal(*SIZE)])) is None


def test_a_large_image_is_sampled_and_compared_in_parts(monkeypatch):
    image = head(TISSUE, 10 * RAYLEIGH)
    whole = air_of(image)
    monkeypatch.setattr(module, "SAMPLED", 3000)
    assert air_of(image)[1] == pytest.approx(whole[1], rel=0.1)
    assert torch.equal(content_of(image[None], [whole]), image > whole[1])


def test_a_threshold_is_in_the_middle_of_a_gap():
    values = torch.cat([torch.linspace(0, 1, 100), torch.linspace(9, 10, 5)])
    assert otsu_threshold(values) == pytest.approx(5, abs=0.1)


def test_dark_noise_is_open_below():
    low, high = air_of(head(TISSUE, 10 * RAYLEIGH))
    assert low == -math.inf
    assert 40 < high < 120


def test_no_box_without_content():
    assert box_of(torch.zeros(3, 4, dtype=torch.bool)) is None
