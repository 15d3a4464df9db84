"""Channels are normalised by what each of them is."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensityd

from custom_networks.workflow import NormalizeChannelsd

CT = {"clip": [-100, 200], "mean": 50, "std": 25}


def test_without_schemes_it_is_the_z_score_of_every_channel():
    image = torch.randn(2, 5, 6, 4) * 7 + 3
    want = NormalizeIntensityd("image", channel_wise=True)({"image": image})["image"]
    assert torch.equal(NormalizeChannelsd("image")({"image": image})["image"], want)
    named = NormalizeChannelsd("image", ["z_score", "z_score"])({"image": image})["image"]
    torch.testing.assert_close(named.as_tensor(), torch.as_tensor(want))


def test_every_channel_gets_its_own_scheme():
    affine = torch.diag(torch.tensor([2.0, 3, 1, 1], dtype=torch.float64))
    image = MetaTensor(torch.randn(2, 5, 6, 4) * 300, affine=affine)
    before = image.clone()
    got = NormalizeChannelsd("image", [CT, "z_score"])({"image": image})["image"]
    torch.testing.assert_close(got[0].as_tensor(), (before[0].as_tensor().clamp(-100, 200) - 50) / 25)
    assert got[1].mean().item() == pytest.approx(0, abs=1e-5)
    assert got[1].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(got.affine, affine)
    assert torch.equal(image, before)


def test_zeros_may_be_left_out():
    image = torch.randn(1, 5, 6, 4) * 7 + 300
    brain = torch.rand(1, 5, 6, 4) > 0.7
    got = NormalizeChannelsd("image", ["z_score_nonzero"])({"image": image * brain})["image"].as_tensor()
    inside = image[brain]
    torch.testing.assert_close(got[brain], (inside - inside.mean()) / inside.std(correction=0), atol=1e-4, rtol=0)
    assert not got[~brain].any()


def test_a_channel_of_zeros_stays_as_it_is():
    assert not NormalizeChannelsd("image", ["z_score_nonzero"])({"image": torch.zeros(1, 2, 2, 2)})["image"].any()


def test_integers_become_float():
    got = NormalizeChannelsd("image", [CT])({"image": torch.full((1, 2, 2, 2), 75, dtype=torch.int16)})["image"]
    assert got.dtype == torch.float32
    assert got.unique().tolist() == [1]


@pytest.mark.parametrize(
    "scheme", ["zscore", {"clip": [0, 1]}, {**CT, "std": 0}, {**CT, "max": 1}, {**CT, "std": float("nan")}]
)
def test_schemes_that_are_none(scheme):
    with pytest.raises(ValueError, match='give "z_score", "z_score_nonzero" or'):
        NormalizeChannelsd("image", [scheme])


def test_as_many_schemes_as_channels():
    with pytest.raises(ValueError, match="intensity has 2 entries, but the image 1 channels"):
        NormalizeChannelsd("image", [CT, CT])({"image": torch.zeros(1, 2, 2, 2)})
