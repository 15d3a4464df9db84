from __future__ import annotations

import numpy as np
import pytest

from custom_networks.workflow.report.image_facts import SAMPLES, image_facts, spread

AFFINE = np.array([[0, 0, -3.0, 9], [1.5, 0, 0, 2], [0, 1.0, 0, 4], [0, 0, 0, 1]])  # axes A, S, L


def gauss(seed=0, shape=(12, 14, 10)) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape)


def ct() -> np.ndarray:
    image = np.full((20, 20, 20), -1000.0)
    image[3:17, 3:17] = np.random.default_rng(0).normal(30, 60, (14, 14, 20)).round()
    return image


def channel(image) -> dict:
    return image_facts(image[None], np.eye(4))["intensity"][0]


def test_sizes_stand_along_the_axes_of_ras():
    facts = image_facts(gauss(shape=(12, 14, 10))[None], AFFINE)
    assert facts["shape"] == [10, 12, 14]
    assert facts["spacing"] == [3.0, 1.5, 1.0]
    assert facts["extent_mm"] == [30.0, 18.0, 14.0]


def test_a_list_of_channels_is_an_image():
    pair = [gauss(0), gauss(1)]
    assert image_facts(pair, AFFINE) == image_facts(np.stack(pair), AFFINE)


@pytest.mark.parametrize("scale", [0.001, 1.0, 7e5])
@pytest.mark.parametrize("offset", [0.0, 40.0])
def test_no_scale_changes_what_is_compared(scale, offset):
    one, other = channel(gauss()), channel(gauss() * scale + offset)
    assert other["middle"] == pytest.approx(one["middle"])
    assert [other[key] for key in ("share", "distinct", "hounsfield")] == [
        one[key] for key in ("share", "distinct", "hounsfield")
    ]


def test_the_commonest_value_and_its_share():
    image = np.arange(1000.0).reshape(10, 10, 10)
    image[:4] = 7
    facts = channel(image)
    assert (facts["commonest"], facts["share"], facts["distinct"]) == (7, 0.4, 601)


def test_what_looks_like_ct():
    assert channel(ct())["hounsfield"]
    assert channel(ct()[5:15, 5:15] - 120)["hounsfield"]  # without air, of fat and soft tissue
    assert not channel(ct() + 1024)["hounsfield"]  # without slope and intercept
    assert not channel((gauss() - 100) / 20)["hounsfield"]
    image = gauss() - 300  # as BraTS has some: negative, but with the surroundings at 0
    image[:, :8] = 0
    assert not channel(image)["hounsfield"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_image_is_sampled_across_all_planes(order):
    image = np.zeros((64, 128, 256), np.float32, order=order)  # rows that a step of a power of two would follow
    image[:] = np.arange(256)
    facts = channel(image)
    assert facts["distinct"] == 256
    assert facts["share"] == pytest.approx(1 / 256, rel=0.02)
    assert facts["p50"] == pytest.approx(127.5, abs=1)
    assert image.size > SAMPLES


def test_what_is_no_number_is_left_out():
    image = gauss()
    image[0] = np.nan
    image[1] = np.inf
    assert channel(image) == channel(image[2:])
    assert channel(np.full((2, 2, 2), np.nan))["p99"] == 0


def test_the_spread_of_several_images():
    first, second = image_facts(gauss(0)[None], AFFINE), image_facts(ct()[None], np.eye(4))
    found = spread([first, second])
    assert found["shape"] == {"least": [10, 12, 14], "most": [20, 20, 20]}
    assert found["spacing"] == {"least": [1.0, 1.0, 1.0], "most": [3.0, 1.5, 1.0]}
    assert found["extent_mm"] == {"least": [20.0, 18.0, 14.0], "most": [30.0, 20.0, 20.0]}
    intensity = found["intensity"][0]
    assert intensity["p1"] == [-1000.0, pytest.approx(first["intensity"][0]["p1"], rel=1e-3)]
    assert intensity["distinct"] == sorted(facts["intensity"][0]["distinct"] for facts in (first, second))
    assert intensity["hounsfield"] == 0.5
    assert "commonest" not in intensity
