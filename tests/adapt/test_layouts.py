"""Folders as people have them, read as they stand by check, adapt, training and evaluation alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from custom_networks.__main__ import main
from custom_networks.adapt.commands import adapt
from custom_networks.workflow import segmentation_data_list
from tests.synthetic import ROOT, SEGMENTATION, change, read_rows, run, volume, write_nifti

BUNDLE = SEGMENTATION[0].name
RAW = {
    "channel_names": {"0": "T1", "1": "CT"},
    "labels": {"background": 0, "small": 1, "large": 2},
    "numTraining": 4,
    "file_ending": ".nii.gz",
}


def save(root: Path, number: int, label: str, *images: str) -> None:
    """Write a label and the channels of its image."""
    voxels, classes = volume(number, 2)
    write_nifti(classes, root / label)
    for channel, image in enumerate(images):
        write_nifti(voxels[..., channel], root / image)


def raw_folder(root: Path) -> Path:
    for number in range(4):
        save(root, number, f"labelsTr/c{number}.nii.gz", *(f"imagesTr/c{number}_000{k}.nii.gz" for k in (0, 1)))
    (root / "dataset.json").write_text(json.dumps(RAW))
    return root


def kits(root: Path) -> Path:
    for number in range(4):
        save(root, number, f"case_0000{number}/segmentation.nii.gz", f"case_0000{number}/imaging.nii.gz")
    return root


def bids(root: Path) -> Path:
    for number in range(4):
        name = f"sub-{number // 2 + 1}/ses-{number % 2 + 1}/anat/sub-{number // 2 + 1}_ses-{number % 2 + 1}"
        save(root, number, f"derivatives/manual/{name}_dseg.nii.gz", f"{name}_T1w.nii.gz")
    return root


def channel_lists(root: Path) -> Path:
    raw_folder(root)
    listed = [
        {"image": [f"imagesTr/c{n}_000{k}.nii.gz" for k in (0, 1)], "label": f"labelsTr/c{n}.nii.gz"} for n in range(4)
    ]
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "T1", "1": "T2"}, "training": listed}))
    return root


LAYOUTS = {
    "nnU-Net": (raw_folder, 2, ["c0", "c1", "c2", "c3"], "nnU-Net's raw folder, 2 channels per case"),
    "lists": (channel_lists, 2, ["c0", "c1", "c2", "c3"], "listed in dataset.json"),
    "KiTS": (kits, 1, [f"case_0000{n}" for n in range(4)], "KiTS's folders"),
    "BIDS": (bids, 1, [f"sub-{s}_ses-{n}" for s in (1, 2) for n in (1, 2)], "BIDS, sub-*/**/*_T1w.nii.gz"),
}


@pytest.mark.parametrize(("make", "channels", "names", "words"), LAYOUTS.values(), ids=LAYOUTS)
def test_check_adapt_and_a_run_find_the_same_cases(tmp_path, capsys, make, channels, names, words):
    root, out = make(tmp_path / "data"), tmp_path / "mine.json"
    assert main(["check", str(root)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"layout: {words}\n")
    assert said.endswith("4 cases: ready\n")
    profile = adapt(str(root), bundle=BUNDLE, out=str(out))
    assert profile["in_channels"] == channels
    assert not {"image_glob", "label_glob"} & set(profile)
    assert re.search(rf"^cases +4  \({re.escape(words)}\)$", capsys.readouterr().out, re.MULTILINE)
    assert main(["check", str(root), "--profile", str(out)]) == 0
    knobs = {key: profile[key] for key in ("fold", "folds_file") if key in profile}
    listed = [segmentation_data_list(root, part, **knobs) for part in ("training", "validation")]
    assert sorted(case["case"] for part in listed for case in part) == names
    if make is bids:
        assert [[case["case"] for case in part] for part in listed] == [names[2:], names[:2]]


def test_nnunet_trains_and_is_evaluated_by_its_splits(tmp_path):
    """Two channels in two files; results are called as the case."""
    root, out = raw_folder(tmp_path / "data"), tmp_path / "mine.json"
    splits = [{"train": ["c0", "c1"], "val": ["c3"]}, {"train": ["c3"], "val": ["c0"]}]
    (root / "splits_final.json").write_text(json.dumps(splits))
    profile = adapt(str(root), bundle=BUNDLE, out=str(out))
    assert "folds_file" not in profile
    assert profile["intensity"][0] == "z_score"
    assert set(profile["intensity"][1]) == {"clip", "mean", "std"}
    bundle, small = ROOT / "bundles" / BUNDLE, {"network_def#features": [8, 16, 16], "patch_size": [16, 16, 16]}
    run(bundle, "train", {**small, "epochs": 1, "val_interval": 1}, args_file=str(out))
    run(bundle, ["train", "evaluate"], small, args_file=str(out))
    assert {row["case"] for row in read_rows(tmp_path / "mine" / "metrics.csv")} == {"c3"}
    run(bundle, ["train", "evaluate"], {**small, "fold": "all"}, args_file=str(out))
    assert {row["case"] for row in read_rows(tmp_path / "mine" / "metrics.csv")} == {"c0", "c1", "c2", "c3"}
    for number in (7, 8):
        save(root, number, f"labelsTs/n_{number}.nii.gz", *(f"imagesTs/n_{number}_000{k}.nii.gz" for k in (0, 1)))
    run(bundle, "inference", {**small, "output_dir": str(tmp_path / "masks")}, args_file=str(out))
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["n_7.nii.gz", "n_8.nii.gz"]


def test_splits_of_the_data_set_stand_before_patients_by_their_names(tmp_path, capsys):
    root, names = bids(tmp_path / "data"), LAYOUTS["BIDS"][2]
    (root / "splits_final.json").write_text(json.dumps([{"train": names[1:], "val": names[:1]}]))
    assert "folds_file" not in adapt(str(root), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    assert "3 to train on, 1 to validate on; splits_final.json in the data set" in capsys.readouterr().out
    assert main(["check", str(root)]) == 1
    said = capsys.readouterr().out
    assert "sub-1_ses-1_T1w.nii.gz  is to validate on, but sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz of the same" in said


def test_channels_on_two_grids(tmp_path, capsys):
    root = raw_folder(tmp_path / "data")
    change(root / "imagesTr" / "c1_0001.nii.gz", lambda voxels: voxels[1:])
    assert main(["adapt", str(root), "--bundle", BUNDLE, "--out", str(tmp_path / "mine.json")]) == 1
    assert "c1_0001.nii.gz has shape (23, 28, 22) but" in capsys.readouterr().err
    assert main(["check", str(root)]) == 1
    assert "\nimagesTr/c1_0001.nii.gz  has shape (23, 28, 22) but" in capsys.readouterr().out


def test_eighty_problems_of_one_kind_are_ten_lines(tmp_path, capsys):
    for number in range(80):
        (tmp_path / "imagesTr").mkdir(exist_ok=True)
        (tmp_path / "imagesTr" / f"x{number:02d}.nii.gz").touch()
    write_nifti(np.ones((4, 4, 4), np.float32), tmp_path / "imagesTr" / "a.nii.gz")
    write_nifti(np.ones((4, 4, 4), np.uint8), tmp_path / "labelsTr" / "a.nii.gz")
    write_nifti(np.ones((4, 4, 4), np.uint8), tmp_path / "labelsTr" / "b.nii.gz")
    assert main(["check", str(tmp_path)]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len([line for line in lines if "has no label of the same name" in line]) == 10
    assert len([line for line in lines if "... and 70 more of this kind" in line]) == 1
    assert len([line for line in lines if "labelsTr/b.nii.gz" in line]) == 1
    assert "82 problems in" in said.err


def test_problems_of_a_kind_are_told_by_their_words(tmp_path, capsys):
    """Not by the numbers and files in them, and each kind is counted for itself."""
    for number in range(12):
        voxels, label = np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.uint8)
        voxels[0, 0, : number % 3 + 1], voxels[1, 1, 1] = np.nan, number
        label[1, 1, 1] = 1
        write_nifti(voxels, tmp_path / "imagesTr" / f"{number}.nii.gz")
        write_nifti(label if number % 2 else label[: number // 2 + 1], tmp_path / "labelsTr" / f"{number}.nii.gz")
    assert main(["check", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "NaN or infinite voxels" in line]) == 10
    assert len([line for line in lines if "has shape" in line]) == 3
    assert len([line for line in lines if "... and 2 more of this kind" in line]) == 1
