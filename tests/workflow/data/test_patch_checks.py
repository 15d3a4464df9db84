"""Patches are looked at before anything starts, in the size that the network will see, and classes count the same."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Spacingd

from custom_networks.workflow import check_patches, class_weights
from custom_networks.workflow.data.patch_checks import _size_in_network
from tests.synthetic import write_nifti, write_oriented

LEAST = (9, 8, 7)


def case(path, shape=(12, 10, 8), spacing=(1, 1, 1), value=1.0):
    affine = np.diag([*spacing, 1.0])
    pixels = np.full(shape, value, np.float32)
    pixels[0, 0, 0] += 1
    return {"image": str(write_nifti(pixels, path, affine)), "label": 0}


def check(in_channels=1, spacing=(1.0, 1.0, 1.0), patch_size=(12, 12, 12), **cases):
    check_patches(in_channels, spacing, patch_size, LEAST, **cases)


@pytest.mark.parametrize("codes", ["RAS", "PSR", "ILA"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.0)])
def test_the_size_is_that_after_the_transforms(tmp_path, codes, spacing):
    case(tmp_path / "a.nii.gz", shape=(13, 10, 8), spacing=(0.8, 1.0, 2.5))
    path = write_oriented(tmp_path / "a.nii.gz", codes, tmp_path / "b.nii.gz")
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
    image = load({"image": path})["image"]
    chain = Compose([Orientationd("image", axcodes="RAS", labels=None), Spacingd("image", spacing)])
    assert _size_in_network(image, spacing) == tuple(chain({"image": image})["image"].shape[1:])


def test_an_oblique_patch_has_its_size_too(tmp_path):
    turn = nib.eulerangles.euler2mat(x=0.3, y=0.2, z=0.1)
    affine = nib.affines.from_matvec(turn @ np.diag([2.0, 1.0, 1.0]), [0, 0, 0])
    path = write_nifti(np.arange(400.0).reshape(5, 10, 8), tmp_path / "a.nii.gz", affine)
    check(training=[{"image": str(path)}])
    with pytest.raises(ValueError, match=r"has \(5, 10, 8\) voxels of \(2.0, 1.0, 1.0\) mm"):
        check(spacing=(2.0, 1.0, 1.0), training=[{"image": str(path)}])


@pytest.mark.parametrize("section", ["training", "validation", "inference"])
def test_every_section_is_looked_at(tmp_path, caplog, section):
    caplog.set_level("INFO", logger="custom_networks")
    good = [case(tmp_path / f"{number}.nii.gz") for number in range(2)]
    check(**{section: good})
    assert "checked 2 patches" in caplog.text
    small = case(tmp_path / "small.nii.gz", shape=(12, 10, 6))
    with pytest.raises(ValueError, match=r"small.nii.gz has \(12, 10, 6\) voxels of .* \(9, 8, 7\); cut larger patche"):
        check(**{section: [*good, small]})


def test_the_least_size_is_allowed(tmp_path):
    check(patch_size=LEAST, training=[case(tmp_path / "a.nii.gz", shape=LEAST)])


def test_what_no_network_can_take_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent.nii.gz"):
        check(training=[{"image": str(tmp_path / "absent.nii.gz")}])
    with pytest.raises(ValueError, match="holds 960 NaN or infinite voxels"):
        check(training=[case(tmp_path / "nan.nii.gz", value=np.nan)])
    with pytest.raises(ValueError, match=r"has 1 channels of shape .* where 2 are expected"):
        check(in_channels=2, training=[case(tmp_path / "a.nii.gz")])
    with pytest.raises(ValueError, match=r"patch_size \(12, 12, 6\) is smaller than the network can take, \(9, 8, 7\)"):
        check(patch_size=(12, 12, 6))
    with pytest.raises(ValueError, match=r"patch_size must be .* 3 positive integers, got \(12, 12\)"):
        check(patch_size=(12, 12))


def test_all_classes_have_the_same_total_weight():
    labels = [0] * 6 + [1] * 3 + [2]
    weights = class_weights([{"label": label} for label in labels], 3)
    total = [sum(float(weights[label]) for label in labels if label == k) for k in range(3)]
    assert total == pytest.approx([10 / 3] * 3)
    assert weights.dtype == torch.float32
    logits, target = torch.randn(10, 3), torch.tensor(labels)
    by_class = [torch.nn.functional.cross_entropy(logits[target == k], target[target == k]) for k in range(3)]
    loss = torch.nn.functional.cross_entropy(logits, target, weight=weights)
    torch.testing.assert_close(loss, sum(by_class) / 3)


@pytest.mark.parametrize(("labels", "counts"), [([0, 0, 2], r"\[2, 0, 1\]"), ([0, 1, 2, 3], r"\[1, 1, 1, 1\]")])
def test_a_class_without_cases_or_beyond_the_names(labels, counts):
    with pytest.raises(ValueError, match=f"the {len(labels)} training cases have {counts} cases per class where each"):
        class_weights([{"label": label} for label in labels], 3)
