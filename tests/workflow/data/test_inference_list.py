"""Which images are found to segment, under which name, and what is refused rather than passed over."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from custom_networks.workflow import inference_data_list
from custom_networks.workflow.infer.masks import write_mask
from tests.conftest import SHARED
from tests.workflow.data.formats import dicom_writer

DICOM = bytes(128) + b"DICM" + bytes(8)
UID = "1.2.840.113619.2.80"


def touch(root: Path, *names: str, content: bytes = b"") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def series(folder: Path, *names: str) -> Path:
    return touch(folder, *(names or ("1.dcm", "2")), content=DICOM)


def entry(path: Path, case: str, mask: str | None = None) -> dict[str, str]:
    return {"image": str(path), "case": case, "mask": mask or f"{case}_seg.nii.gz"}


def cases(root: Path, **options) -> list[str]:
    return [case["case"] for case in inference_data_list(root, **options)]


@pytest.mark.parametrize("name", ["a.nii.gz", "b.nii", "c.nrrd", "d.mha", "e.MHD", "x.y.nii.gz", "f_0000.nii.gz"])
def test_one_file(tmp_path, name):
    path = touch(tmp_path, name) / name
    stem = name[: -len(".nii.gz")] if name.endswith(".nii.gz") else name.rpartition(".")[0]
    assert inference_data_list(path) == [entry(path, stem)]


def test_a_folder_of_images(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.nrrd", "c.mha", ".hidden.nii.gz", "._b.nii.gz", "notes.txt")
    found = [entry(tmp_path / name, name[0]) for name in ("a.nrrd", "b.nii.gz", "c.mha")]
    assert inference_data_list(str(tmp_path)) == found


def test_a_tree_of_images_keeps_its_folders(tmp_path):
    touch(tmp_path, "b.nii.gz", "sub-1/anat/x.nii.gz", "sub-2/anat/x.nii.gz", ".cache/x.nii.gz")
    found = [
        entry(tmp_path / "b.nii.gz", "b"),
        entry(tmp_path / "sub-1/anat/x.nii.gz", "sub-1/anat/x"),
        entry(tmp_path / "sub-2/anat/x.nii.gz", "sub-2/anat/x"),
    ]
    assert inference_data_list(tmp_path) == found


def test_folders_of_dicom_series_at_any_depth(tmp_path):
    """A patient, a study, a series, each called by a UID, whose dots are no suffix."""
    root = tmp_path / "export"
    folders = [series(root / patient / UID / f"{UID}.{n}") for patient in ("p1", "p2") for n in (1, 2)]
    touch(root / "p1" / "reports", "a.pdf", content=b"x" * 200)
    touch(root, "DICOMDIR", content=DICOM)
    names = [folder.relative_to(root).as_posix() for folder in folders]
    assert inference_data_list(root) == [entry(*pair) for pair in zip(folders, names, strict=True)]
    for folder in folders:
        assert inference_data_list(folder) == [entry(folder, folder.name)]


def test_the_folder_in_which_one_stands_has_its_name(tmp_path, monkeypatch):
    folder = series(tmp_path / UID)
    monkeypatch.chdir(folder)
    assert cases(Path()) == [UID]
    assert cases(Path("../") / UID) == [UID]


def test_a_real_series():
    folders = sorted((SHARED / "data" / "HippoCrop_DICOM").glob("*/*"))
    if not folders:
        pytest.skip("the DICOM series are not at <repository>/../shared/data")
    study = folders[0].parent
    inside = [folder for folder in folders if folder.parent == study]
    assert inference_data_list(folders[0]) == [entry(folders[0], folders[0].name)]
    assert inference_data_list(study.parent)[: len(inside)] == [entry(f, f"{study.name}/{f.name}") for f in inside]


def write_dicom(folder: Path, *uids: str) -> Path:
    pytest.importorskip("pydicom")
    for uid in uids:
        dicom_writer.write(folder, dicom_writer.slices(np.ones((4, 5, 3), np.int16), series=uid), f"{uid}_{{}}.dcm")
    return folder


def test_only_the_series_that_is_asked_for(tmp_path):
    folders = [write_dicom(tmp_path / name, *uids) for name, uids in (("a", ["1.1"]), ("b", ["1.2", "1.3"]))]
    assert inference_data_list(tmp_path, series="1.3") == [entry(folders[1], "b")]
    assert inference_data_list(folders[1], series="1.2") == [entry(folders[1], "b")]
    with pytest.raises(
        ValueError, match=r"no folder under .* holds the series 1\.4; it holds 1\.1, 1\.2, 1\.3: correct"
    ):
        inference_data_list(tmp_path, series="1.4")
    with pytest.raises(ValueError, match="holds the series 1; it holds no DICOM series: correct the knob series"):
        inference_data_list(touch(tmp_path / "files", "a.nii.gz"), series="1")


def test_one_file_of_dicom(tmp_path):
    """A file of several frames is an image; that one slice is none, the reader says."""
    write_dicom(tmp_path, "1.1")
    (tmp_path / "1.1_0.dcm").rename(tmp_path / "1.1.2")
    for name, case in (("1.1_1.dcm", "1.1_1"), ("1.1.2", "1.1.2")):
        assert inference_data_list(tmp_path / name) == [entry(tmp_path / name, case)]


def test_masks_of_an_earlier_run_are_left_out_and_that_is_said(tmp_path, caplog):
    touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b.nrrd", "b_seg.nii.gz", "c_seg.nii.gz", "x/s_seg.nii.gz")
    series(tmp_path / "x" / "s")
    with caplog.at_level(logging.INFO):
        assert cases(tmp_path) == ["a", "b", "c_seg", "x/s"]
    assert f"3 masks or labels among the images are left out, such as {tmp_path / 'a_seg.nii.gz'}" in caplog.text


def test_a_mask_that_was_moved_is_left_out(tmp_path, caplog):
    touch(tmp_path, "in/a.nii.gz", "done/corrected/a_seg.nii.gz", "in/b_seg.nii.gz")
    with caplog.at_level(logging.INFO):
        assert cases(tmp_path) == ["in/a", "in/b_seg"]
    assert "1 masks or labels among the images are left out, such as" in caplog.text


def test_labels_of_known_layouts_are_left_out(tmp_path):
    touch(tmp_path / "kits", "case_0/imaging.nii.gz", "case_0/segmentation.nii.gz", "case_1/imaging.nii.gz")
    assert cases(tmp_path / "kits") == ["case_0/imaging", "case_1/imaging"]
    touch(tmp_path / "total", "s1/ct.nii.gz", "s1/segmentations/liver.nii.gz", "s2/mri.nii.gz")
    assert cases(tmp_path / "total") == ["s1/ct", "s2/mri"]
    touch(tmp_path / "mine", "segmentation.nii.gz", "segmentations/a.nii.gz")
    assert cases(tmp_path / "mine") == ["segmentation", "segmentations/a"]


def test_bids(tmp_path):
    root = touch(tmp_path, *(f"sub-{n}/ses-1/anat/sub-{n}_ses-1_T1w.nii.gz" for n in (1, 2)), "sub-1/dwi/a.nii.gz")
    touch(root, "dataset_description.json", "derivatives/manual/sub-1/anat/sub-1_dseg.nii.gz")
    assert cases(root) == [f"sub-{n}/ses-1/anat/sub-{n}_ses-1_T1w" for n in (1, 2)]
    touch(root, "sub-3/anat/sub-3_T2w.nii.gz")
    with pytest.raises(ValueError, match="is a BIDS folder with T1w and T2w in anat; put the images of one kind"):
        inference_data_list(root)


CHANNELS = ("b_0000.nii.gz", "b_0001.nii.gz", "a_7_0000.nii.gz", "a_7_0001.nii.gz")
RAW = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {}, "numTraining": 0, "file_ending": ".nii.gz"}


def channels(folder: Path) -> list[dict]:
    return [
        {"image": [str(folder / f"{case}_000{n}.nii.gz") for n in (0, 1)], "case": case, "mask": f"{case}.nii.gz"}
        for case in ("a_7", "b")
    ]


@pytest.mark.parametrize("earlier", [[], ["b.nii.gz", "a_7.nii.gz"]])
def test_channels_of_nnunet_are_one_image_each(tmp_path, earlier):
    folder = touch(tmp_path / "imagesTs", *CHANNELS, *earlier)
    assert inference_data_list(folder, in_channels=2) == channels(folder)
    (tmp_path / "dataset.json").write_text(json.dumps(RAW))
    assert inference_data_list(folder) == inference_data_list(tmp_path) == channels(folder)
    touch(folder, "b_0001.mha")
    with pytest.raises(
        ValueError, match=r"b_0001\.nii\.gz is the same channel of the same case as .*b_0001\.mha; remove"
    ):
        inference_data_list(tmp_path)
    (folder / "b_0001.mha").unlink()
    (folder / "b_0001.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"b_0001\.nii\.gz is absent, but dataset\.json names 2 channels; add"):
        inference_data_list(tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"b_0001\.nii\.gz is absent, but the network expects 2 channels; add"):
        inference_data_list(folder, in_channels=2)


def test_one_channel_of_nnunet(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "b_0000.nii.gz")
    masks = [case["mask"] for case in inference_data_list(tmp_path, in_channels=1)]
    assert masks == ["a.nii.gz", "b.nii.gz"]
    assert cases(tmp_path) == ["a_0000", "b_0000"]


@pytest.mark.parametrize(
    "names", [["amos_0001", "amos_0004"], ["case_0000", "case_0001"], ["case_0000"], ["a_0000", "b"]]
)
def test_numbered_cases_are_no_channels(tmp_path, names):
    touch(tmp_path, *(f"{name}.nii.gz" for name in names))
    assert cases(tmp_path, in_channels=1) == names


def test_the_folder_of_a_data_set(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    for more in ((), ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz")):
        with pytest.raises(FileNotFoundError, match=r"no folder .*imagesTs; put the images to segment there"):
            inference_data_list(touch(tmp_path, *more))
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no folder .*imagesTs; put the images to segment there"):
        inference_data_list(tmp_path)
    touch(tmp_path, "imagesTs/case.nii.gz")
    assert inference_data_list(tmp_path) == [entry(tmp_path / "imagesTs/case.nii.gz", "case")]


def loop(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "up").symlink_to(root)
    (root / "again").symlink_to(root / "sub")


def test_links_that_lead_in_circles_end(tmp_path):
    touch(tmp_path, "a.nii.gz")
    loop(tmp_path)
    touch(tmp_path, "sub/b.nii.gz")
    assert cases(tmp_path) == ["a", "sub/b"]


def test_links_to_files_and_folders_are_followed(tmp_path):
    touch(tmp_path / "elsewhere", "a.nii.gz", "more/b.nii.gz")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.nii.gz").symlink_to(tmp_path / "elsewhere" / "a.nii.gz")
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "elsewhere" / "more")
    assert cases(tmp_path / "in") == ["sub/b", "x"]


REFUSED = {
    "a broken link": (
        lambda root: (root / "b.nii.gz").symlink_to("gone.nii.gz"),
        r"b\.nii\.gz is a link to gone\.nii\.gz",
    ),
    "a deep one": (
        lambda root: (touch(root, "s/c.nii") / "s/b").symlink_to("gone"),
        r"s/b is a link to gone, which does",
    ),
    "a folder like a file": (
        lambda root: touch(root, "b.nii.gz/x.nii.gz"),
        r"b\.nii\.gz is a folder with the name of an",
    ),
    "files and DICOM": (
        lambda root: touch(root, "1", content=DICOM),
        r"holds a\.nii\.gz and DICOM files, which may show",
    ),
    "one result": (
        lambda root: touch(root, "a.nrrd"),
        r"1 results of .* each other, such as a_seg\.nii\.gz of .*a\.nii",
    ),
    "one result of a series": (lambda root: series(root / "a"), r"such as a_seg\.nii\.gz of .*/a(\.nii\.gz)? and of"),
}


@pytest.mark.parametrize(("damage", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(tmp_path, damage, words):
    damage(touch(tmp_path, "a.nii.gz"))
    with pytest.raises(ValueError, match=rf"\A[^\n]*{words}[^\n]*\Z"):
        inference_data_list(tmp_path)


def test_what_may_not_be_read_is_refused_by_name(tmp_path, monkeypatch):
    touch(tmp_path, "a.nii.gz", "closed/b.nii.gz")
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(
        ValueError, match=r"/closed cannot be read \(Permission denied\); change its permissions or move"
    ):
        inference_data_list(tmp_path)


def test_nothing_to_segment(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere; set dataset_dir"):
        inference_data_list(tmp_path / "nowhere")
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"gone is a link to nowhere, which does not exist"):
        inference_data_list(tmp_path / "gone")
    for name in ("a.mgz", "b.hdr"):
        touch(tmp_path / "other" / "sub", name, content=b"x" * 200)
        with pytest.raises(
            FileNotFoundError, match=r"no NIfTI, .* but files such as .*other/sub/a.mgz; what is read is"
        ):
            inference_data_list(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"no NIfTI, NRRD or MetaImage file and no DICOM series in .*empty; what is"
    ):
        inference_data_list(tmp_path / "empty")
    with pytest.raises(
        ValueError, match=r"a\.mgz is not one of \.nii\.gz, \.nii, \.nrrd, \.mha, \.mhd and no DICOM; convert it"
    ):
        inference_data_list(tmp_path / "other" / "sub" / "a.mgz")
    with pytest.raises(ValueError, match=r"a\.zip is a packed file; unpack it and give the folder"):
        inference_data_list(touch(tmp_path, "a.zip") / "a.zip")


def test_files_of_other_formats_among_images_are_left_out_and_that_is_said(tmp_path, caplog):
    touch(tmp_path, "a.nii.gz", "b.mgz", content=b"x" * 200)
    with caplog.at_level(logging.INFO):
        assert cases(tmp_path) == ["a"]
    assert f"1 files of other formats are left out, such as {tmp_path / 'b.mgz'}" in caplog.text


def test_a_folder_of_nothing_but_masks(tmp_path):
    mask = write_mask_of(tmp_path / "masks" / "a_seg.nii.gz")
    with pytest.raises(
        FileNotFoundError, match=rf"holds nothing but masks and labels, such as {mask}; set dataset_dir"
    ):
        inference_data_list(mask.parent)


def write_mask_of(path: Path) -> Path:
    """Write a file as inference writes a mask."""
    path.parent.mkdir(parents=True)
    write_mask(path, np.zeros((3, 4, 5), np.uint8), np.eye(4), Path("image.nrrd"))
    return path
