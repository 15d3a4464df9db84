"""What else predict writes: other formats, the page, results of zips and DICOM, warnings that count."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow.data.volumes import read_volume
from tests.conftest import SHARED
from tests.predict.conftest import BUNDLE
from tests.synthetic import volume, write_nifti
from tests.workflow.data.formats.dicom_writer import slices, write


@pytest.fixture
def series(tmp_path) -> Path:
    """A DICOM series in the folder of a study."""
    pytest.importorskip("pydicom")
    folder = tmp_path / "study" / "T1"
    voxels = np.round(volume(5)[0] * 100).astype(np.int16)
    write(folder, slices(voxels))
    return folder


def test_nrrd_holds_the_same_voxels_at_the_same_place(images, predict, tmp_path):
    code, lines, _ = predict(images / "first.nii.gz", output_format="nrrd")
    assert code == 0
    assert lines[0]["files"] == ["first_seg.seg.nrrd"]
    mask = nib.load(tmp_path / "result" / "first_seg.nii.gz")
    other = read_volume(str(tmp_path / "result" / "first_seg.seg.nrrd"), labels=True)
    np.testing.assert_array_equal(np.asarray(other)[0], np.asarray(mask.dataobj))
    np.testing.assert_allclose(np.asarray(other.affine), mask.affine, atol=1e-5)


def test_dicom_gives_a_dicom_segmentation_and_nifti_does_not(series, images, predict, tmp_path):
    pytest.importorskip("highdicom")
    code, lines, _ = predict(series.parent, images / "first.nii.gz", output_format="dicom-seg")
    assert code == 1
    statuses = {line["case"]: line for line in lines[:-1]}
    assert statuses["T1"]["status"] == "written"
    (file,) = statuses["T1"]["files"]
    assert (tmp_path / "result" / file).is_file()
    assert statuses["first"]["status"] == "failed"
    assert "DICOM" in statuses["first"]["error"]
    assert not (tmp_path / "result" / "first_seg.nii.gz").exists()


def test_a_zip_of_a_study_gives_what_the_study_gives(series, predict, tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for file in sorted(series.rglob("*")):
            archive.write(file, file.relative_to(series.parents[1]))
    _, of_folder, _ = predict(series, out="folder")
    code, of_zip, _ = predict(tmp_path / "export.zip", out="zip")
    assert code == 0
    one, other = (tmp_path / out / lines[0]["mask"] for out, lines in (("folder", of_folder), ("zip", of_zip)))
    assert one.read_bytes() == other.read_bytes()
    assert of_zip[0]["image"] == [str(tmp_path / "export.zip")]
    assert predict(tmp_path / "export.zip", out="zip")[1][0]["status"] == "skipped"


def test_the_page_is_written_with_pictures_of_all_images(series, images, predict, tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for file in sorted(series.rglob("*")):
            archive.write(file, file.relative_to(series.parents[1]))
    code, lines, _ = predict(images, tmp_path / "export.zip", report=True)
    assert code == 0
    assert lines[-2] == {"event": "report", "file": str(tmp_path / "result" / "report.html")}
    page = (tmp_path / "result" / "report.html").read_text()
    assert "No pictures" not in page
    assert page.count(">axial<") == 4


def test_strict_counts_warnings_as_errors_and_keeps_the_files(predict, tmp_path):
    write_nifti(volume(1, shape=(24, 24, 150))[0], tmp_path / "long.nii.gz")
    code, lines, _ = predict(tmp_path / "long.nii.gz", crop=True)
    assert code == 0
    kinds = {warning["kind"] for warning in lines[0]["warnings"]}
    assert "size" in kinds
    code, lines, _ = predict(tmp_path / "long.nii.gz", crop=True, strict=True)
    assert code == 1
    assert lines[-1]["failed"] == [
        {"case": "long", "error": f"{len(lines[0]['warnings'])} warnings, which --strict counts as errors"}
    ]
    assert (tmp_path / "result" / "long_seg.nii.gz").is_file()


SETS = ["Task04_Hippocampus", "Brain15_2mm", "OASIS12_1mm", "HippoCrop_DICOM", "AdrenalMNIST3D"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SETS, "ACDC10", "OpenKBP93", "BRATS2"])
def test_one_image_of_every_real_set(name, predict, tmp_path):
    """Foreign ones are segmented and warned of; what has other channels is refused."""
    folder = SHARED / "data" / name
    images = folder / "imagesTr" if (folder / "imagesTr").is_dir() else folder
    found = sorted(path for path in images.rglob("*.nii.gz")) or sorted(path.parent for path in images.rglob("1.dcm"))
    if not found:
        pytest.skip(f"there is no <repository>/../shared/data/{name}")
    profile = tmp_path / "quick.json"
    profile.write_text(json.dumps({"spacing": [1.0, 1.0, 1.0] if name in SETS[:1] else [3.0, 3.0, 3.0]}))
    code, lines, error = predict(found[0], profile=profile)
    if name == "BRATS2":
        assert code == 1
        assert "has 2 channels" in lines[0]["error"]
        return
    assert code == 0, error
    assert lines[0]["status"] == "written"
    mask = nib.load(tmp_path / "result" / lines[0]["mask"])
    assert list(mask.shape) == lines[0]["grid"]["shape"]
    kinds = {warning["kind"] for warning in lines[0]["warnings"]}
    if name in ("OASIS12_1mm", "ACDC10", "OpenKBP93"):
        assert kinds & {"size", "spacing", "intensity"}, kinds
    if name == "Task04_Hippocampus":
        assert not kinds
    assert BUNDLE.name == lines[0]["bundles"][0]["name"]
