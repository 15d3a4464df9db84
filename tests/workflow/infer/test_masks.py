"""Masks as files: the header of their image, their own name, and nothing that somebody has corrected is lost."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from custom_networks.workflow import SaveMasksd, check_masks
from custom_networks.workflow.data.formats import nifti
from custom_networks.workflow.data.volumes import read_volume
from tests.synthetic import write_nifti

SHAPE = (4, 1, 6)


def image(path: Path, **header) -> Path:
    """Write an image of one voxel's thickness whose header has much to lose."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = nib.Nifti1Image(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), None)
    written.set_qform(np.diag([-0.5, 0.5, 2, 1]), 1)
    written.header.set_xyzt_units("micron", "sec")
    written.header["cal_max"], written.header["descrip"], written.header["intent_code"] = 7, b"secret", 1001
    for name, value in header.items():
        written.header[name] = value
    nib.Nifti1Image(np.asarray(written.dataobj), None, written.header).to_filename(path)
    return path


def prediction(path: Path) -> MetaTensor:
    volume = read_volume(path)
    mask = MetaTensor(torch.zeros(1, *SHAPE), affine=volume.affine, meta={"filename_or_obj": str(path)})
    mask[0, 3, 0, 2] = 2
    return mask


def save(path: Path, folder: Path, **entries) -> Path:
    before = set(folder.rglob("*.nii.gz"))
    SaveMasksd("pred", folder, np.uint8)({"pred": prediction(path), **entries})
    (written,) = set(folder.rglob("*.nii.gz")) - before
    return written


def test_monai_label_leaves_it_out():
    assert issubclass(SaveMasksd, SaveImaged)


@pytest.mark.parametrize(("name", "case"), [("scan.nii.gz", "scan"), ("1.2.840.nii", "1.2.840"), ("A.NII.GZ", "A")])
def test_the_mask_has_the_header_of_its_image(tmp_path, name, case):
    path = image(tmp_path / name)
    written = save(path, tmp_path / "out")
    assert written.name == f"{case}_seg.nii.gz"
    mask, scan = nib.load(written), nib.load(path)
    assert mask.shape == SHAPE
    assert mask.get_data_dtype() == np.uint8
    for field in ("qform_code", "sform_code", "quatern_b", "qoffset_x", "pixdim", "srow_x", "xyzt_units"):
        np.testing.assert_array_equal(mask.header[field], scan.header[field])
    assert [float(mask.header[field]) for field in ("cal_max", "intent_code")] == [0, 0]
    assert b"secret" not in bytes(mask.header["descrip"])
    np.testing.assert_array_equal(np.argwhere(np.asarray(mask.dataobj)), [[3, 0, 2]])


def test_a_broken_form_of_the_image_is_not_that_of_the_mask(tmp_path):
    path = image(tmp_path / "a.nii", sform_code=1, srow_x=np.nan)
    mask = nib.load(save(path, tmp_path / "out"))
    np.testing.assert_allclose(mask.affine, np.diag([-0.5, 0.5, 2, 1]))


@pytest.mark.parametrize("shear", [0.0, 0.2])
def test_the_mask_of_another_format_has_both_forms_or_the_sform(tmp_path, shear):
    affine = np.diag([-0.5, 0.5, 2, 1])
    affine[1, 2] = shear
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"")
    mask = MetaTensor(torch.zeros(1, *SHAPE), affine=affine, meta={"filename_or_obj": str(path)})
    SaveMasksd("pred", tmp_path / "out")({"pred": mask})
    written = nib.load(tmp_path / "out" / "a_seg.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    assert int(written.header["qform_code"]) == (0 if shear else 2)
    assert nifti.read_header(tmp_path / "out" / "a_seg.nii.gz").notes == ()


def test_the_name_of_the_case_may_lead_to_a_folder(tmp_path):
    path = image(tmp_path / "a_0000.nii.gz")
    assert save(path, tmp_path / "out", mask="sub-01/a.nii.gz") == tmp_path / "out" / "sub-01" / "a.nii.gz"


def test_a_mask_is_written_again_unless_somebody_has_touched_it(tmp_path):
    path, out = image(tmp_path / "a.nii.gz"), tmp_path / "out"
    case = {"image": str(path)}
    check_masks(out, [case])
    written = save(path, out)
    for _ in range(2):
        check_masks(out, [case])
        SaveMasksd("pred", out, np.uint8)({"pred": prediction(path)})
    mask = nib.load(written)
    voxels = np.asarray(mask.dataobj).copy()
    voxels[0, 0, 0] = 1
    nib.Nifti1Image(voxels, None, mask.header).to_filename(written)
    before = written.read_bytes()
    for again in (lambda: check_masks(out, [case]), lambda: save(path, out)):
        with pytest.raises(ValueError, match=r"a_seg.nii.gz has been edited since it was written; move it, or"):
            again()
    write_nifti(np.zeros(SHAPE, np.uint8), written)
    with pytest.raises(ValueError, match=r"a_seg.nii.gz exists and was not written by this program, or another one"):
        check_masks(out, [case])
    assert before != written.read_bytes()
    assert list(out.iterdir()) == [written]


@pytest.mark.parametrize(("value", "dtype"), [(614454277, np.int32), (3000000001, np.int64)])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_large_label_values_are_kept(tmp_path, value, dtype, name):
    path = image(tmp_path / "a.nii.gz")
    mask = prediction(path).to(torch.int64)
    mask.meta["filename_or_obj"] = str(tmp_path / name)
    mask[0, 0, 0, 0] = value
    SaveMasksd("pred", tmp_path / "out", dtype)({"pred": mask})
    assert np.asarray(nib.load(tmp_path / "out" / "a_seg.nii.gz").dataobj).max() == value
