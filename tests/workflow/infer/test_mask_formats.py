"""One function writes a mask in each format: the same voxels in the same place, and none is taken for an image."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow import inference_data_list
from custom_networks.workflow.data.formats.dicom import read_header
from custom_networks.workflow.data.volumes import read_volume
from custom_networks.workflow.infer.mask_formats import FORMATS, MadeBy, Mask, check_mask_as, format_of, save_mask_as
from tests.workflow.data.formats.dicom_writer import OBLIQUE, ras, slices, write

IMAGE = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
VOXELS = (IMAGE > 50).astype(np.uint8)
STRUCTURES = [{"name": "heart", "values": [1]}]


def mask_of(image, affine) -> Mask:
    return Mask(VOXELS, affine, image, None, STRUCTURES, MadeBy("made_up", "0.1.0"))


def test_a_series_in_each_format(tmp_path):
    pytest.importorskip("highdicom")
    image = write(tmp_path / "in" / "scan", slices(IMAGE, OBLIQUE))
    mask = mask_of(image, read_header(image).affine)
    for name in FORMATS:
        for _ in range(2):
            file = save_mask_as(name, tmp_path / "in" / "result" / "1.2.840_seg", mask)
        assert file == tmp_path / "in" / "result" / f"1.2.840_seg{FORMATS[name].suffix}"
        check_mask_as(name, tmp_path / "in" / "result" / "1.2.840_seg", image)
        if name != "dicom-seg":
            volume = read_volume(file)
            np.testing.assert_array_equal(volume[0], VOXELS)
            np.testing.assert_allclose(volume.affine, ras(OBLIQUE), atol=1e-5)
    assert [entry["case"] for entry in inference_data_list(tmp_path / "in")] == ["scan"]


def test_masks_among_the_images_are_no_images(tmp_path):
    """Whatever the images are called."""
    file = tmp_path / "scan.nii.gz"
    nib.Nifti1Image(IMAGE, ras(OBLIQUE)).to_filename(file)
    for name in ("nifti", "nrrd"):
        save_mask_as(name, tmp_path / "other", mask_of(file, ras(OBLIQUE)))
    assert [entry["case"] for entry in inference_data_list(tmp_path)] == ["scan"]


def test_what_a_format_cannot_hold_is_refused_first(tmp_path):
    file = tmp_path / "scan.nii.gz"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"scan.nii.gz is no DICOM, of which a DICOM segmentation is made; choose"):
        check_mask_as("dicom-seg", tmp_path / "a_seg", file)
    for name, suffix in (("nifti", ".nii.gz"), ("nrrd", ".seg.nrrd")):
        (tmp_path / f"a_seg{suffix}").write_text("of somebody")
        for act in (check_mask_as, lambda name, target, image: save_mask_as(name, target, mask_of(image, np.eye(4)))):
            with pytest.raises(ValueError, match=rf"a_seg{suffix} exists and was not written by this program"):
                act(name, tmp_path / "a_seg", file)
    with pytest.raises(
        ValueError, match=r"^there is no output format 'rtstruct'; choose one of nifti, nrrd, dicom-seg$"
    ):
        format_of("rtstruct")
