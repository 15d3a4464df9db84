from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Spacingd

from custom_networks.workflow import MonaiLabelSpacingd
from tests.synthetic import write_nifti

OPTIONS = {"keys": ["image"], "pixdim": (1.0, 1.0, 1.0), "mode": "bilinear"}


@pytest.fixture
def data(tmp_path):
    """One loaded case, as MONAI Label hands it over without its string."""
    pixels = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
    path = write_nifti(pixels, tmp_path / "a.nii.gz", np.diag([1.0, 1.4, 2.0, 1.0]))
    return Compose([LoadImaged("image"), EnsureChannelFirstd("image")])({"image": str(path)})


def label_request(data: dict) -> dict:
    return {**data, "image_path": "/store/a.nii.gz", "image_id": 7, "image_meta_dict": {"note": 1}}


def test_equal_to_the_stock_transform(data):
    want, got = Spacingd(**OPTIONS)(dict(data)), MonaiLabelSpacingd(**OPTIONS)(dict(data))
    assert got["image"].shape == (1, 6, 7, 7)
    assert torch.equal(got["image"], want["image"])
    assert torch.equal(got["image"].affine, want["image"].affine)
    assert got.keys() == want.keys()


def test_plain_values_named_after_the_image_are_kept(data):
    got = MonaiLabelSpacingd(**OPTIONS)(label_request(data))
    assert (got["image_path"], got["image_id"]) == ("/store/a.nii.gz", 7)
    assert torch.equal(got["image"], Spacingd(**OPTIONS)(dict(data))["image"])
    assert got["image_meta_dict"]["note"] == 1
    assert len(got["image_meta_dict"]) > 1


def test_the_stock_transform_still_needs_this_class(data):
    with pytest.raises((AttributeError, RuntimeError), match="update"):
        Spacingd(**OPTIONS)(label_request(data))


def test_inversion_goes_through_it(data):
    transform = Compose([MonaiLabelSpacingd(**OPTIONS)])
    request = transform(label_request(data))
    request["pred"] = request["image"].clone()
    back = Invertd("pred", transform=transform, orig_keys="image", nearest_interp=False)(request)["pred"]
    assert back.shape == data["image"].shape
    assert torch.allclose(back.affine, data["image"].affine)
    stock = Compose([Spacingd(**OPTIONS)])
    request = stock(dict(data))
    request["pred"] = request["image"].clone()
    want = Invertd("pred", transform=stock, orig_keys="image", nearest_interp=False)(request)["pred"]
    assert torch.equal(back, want)
