"""A folder that is known but cannot be used is called by its name, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom_networks.__main__ import main
from custom_networks.workflow import segmentation_data_list

BUNDLE = "hippocampus_mr_attention_unet_segmentation"
DICOM = bytes(128) + b"DICM"
FOLDERS = {
    "half": (["imagesTr/a.nii"], r"has imagesTr but no labelsTr; put the labels there, or give a pattern"),
    "other half": (["labelsTr/a.nii"], r"has labelsTr but no imagesTr; put the images there"),
    "TotalSegmentator": (
        ["s0001/ct.nii.gz", "s0001/segmentations/liver.nii.gz", "meta.csv"],
        r"is a folder of TotalSegmentator, with one mask per class in s0001/segmentations; merge the masks",
    ),
    "preprocessed": (
        ["nnUNetPlans.json", "dataset_fingerprint.json", "dataset.json", "gt_segmentations/a.nii.gz"],
        r"holds data that nnU-Net has preprocessed, cropped and resampled; give the folder .* in nnUNet_raw",
    ),
    "DICOM": (["p1/st/se/1", "p1/st/se/2"], r"holds DICOM series, such as .*p1/st/se, and no labels beside them; put"),
    "flat": (["a.nii", "b.mha"], r"holds 2 images and no folder of labels; put images in imagesTr and labels in"),
    "packed": (["data.tar.gz", "readme.txt"], r"holds data\.tar\.gz, a packed file; unpack it"),
    "one floor up": (["D1/imagesTr/a.nii", "D2/dataset.json"], r"holds data sets; give one of them, such as .*/D1"),
    "other formats": (["mri/a.mgz"], r"holds mri/a\.mgz; what is read is \.nii\.gz, .* and DICOM: convert"),
    "nothing": (["notes.txt"], r"there is no .*dataset\.json; set dataset_dir to a Decathlon folder"),
}


@pytest.mark.parametrize(("files", "words"), FOLDERS.values(), ids=FOLDERS)
def test_training_check_and_adapt_say_what_it_is(write, capsys, tmp_path, files, words):
    root = write(*files)
    for file in files:
        (root / file).write_bytes(b"{}" if file.endswith(".json") else DICOM if "/se/" in file else b"")
    with pytest.raises(FileNotFoundError, match=rf"\A[^\n]*{words}[^\n]*\Z") as error:
        segmentation_data_list(root, "training")
    for command in (["check", str(root)], ["adapt", str(root), "--bundle", BUNDLE, "--out", str(tmp_path / "x.json")]):
        assert main(command) == 1
        assert capsys.readouterr().err.strip().splitlines()[-1] == f"error: {error.value}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("data.zip", r"data\.zip is a packed file; unpack it and give the folder"),
        ("data.tar", r"data\.tar is a packed file; unpack it"),
        ("a.nii.gz", r"a\.nii\.gz is a file where the folder of a data set is expected; "),
        ("nowhere", r"there is no data set folder .*nowhere; "),
    ],
)
def test_what_is_no_folder(write, capsys, tmp_path, name, words):
    path: Path = write("data.zip", "data.tar", "a.nii.gz") / name
    with pytest.raises((ValueError, FileNotFoundError), match=rf"{words}(set dataset_dir|unpack|$|and give)?"):
        segmentation_data_list(path, "training")
    for command in (["check", str(path)], ["adapt", str(path), "--bundle", BUNDLE, "--out", str(tmp_path / "x.json")]):
        assert main(command) == 1
        assert name in capsys.readouterr().err
