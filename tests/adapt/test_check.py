"""One broken file in a folder: ``check`` finds it by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_networks.__main__ import main


def _save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)


def _image(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape or (6, 7, 8)).astype(np.float32)


def _label(value: float = 1, shape: tuple[int, ...] = (6, 7, 8)) -> np.ndarray:
    voxels = np.zeros(shape, np.float32)
    voxels[2:4, 2:4, 2:4] = value
    return voxels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my däta #1"
    for number in range(4):
        _save(root / f"imagesTr/case{number}.nii.gz", _image(number))
        _save(root / f"labelsTr/case{number}.nii.gz", _label())
    return root


def _with(voxel: float) -> np.ndarray:
    voxels = _image(2)
    voxels[1, 1, 1] = voxel
    return voxels


IMAGE, LABEL = "imagesTr/case2.nii.gz", "labelsTr/case2.nii.gz"


def _list(root: Path, *cases: str, **entries: object) -> None:
    """Write a dataset.json that lists cases, and other entries."""
    listed = [{"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in cases]
    (root / "dataset.json").write_text(json.dumps({"training": listed, **entries}))


def _copy_elsewhere(root: Path) -> None:
    _save(root / "more/case2.nii.gz", _image(9))
    _list(
        root, "case0", validation=[{"image": f"{where}/case2.nii.gz", "label": LABEL} for where in ("imagesTr", "more")]
    )


def _share_a_patient(root: Path) -> None:
    names = ["p1_a", "case2_a", "case2_b", "p3_a"]
    for number, name in enumerate(names):
        for folder in ("imagesTr", "labelsTr"):
            (root / folder / f"case{number}.nii.gz").rename(root / folder / f"{name}.nii.gz")
    held_out = [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in names[2:]]
    _list(root, *names[:2], validation=held_out)


def _write_singular(path: Path) -> None:
    header = nibabel.load(path).header
    header["srow_y"] = header["srow_x"]
    nibabel.save(nibabel.Nifti1Image(_image(2), None, header), path)


BROKEN: dict[str, Callable[[Path], object]] = {
    "image without label": lambda root: (root / LABEL).unlink(),
    "label without image": lambda root: (root / IMAGE).unlink(),
    "cannot be read": lambda root: (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:200]),
    "Empty file": lambda root: (root / LABEL).write_bytes(b""),
    "has shape": lambda root: _save(root / LABEL, _label(shape=(6, 7, 9))),
    "another affine": lambda root: _save(root / LABEL, _label(), np.diag([1, 1, 2, 1])),
    "2 channels of": lambda root: _save(root / IMAGE, _image(2, 6, 7, 8, 2)),
    "has 2 channels where": lambda root: _save(root / LABEL, np.stack([_label()] * 2, -1)),
    "2 spatial axes": lambda root: _save(root / IMAGE, _image(2, 6, 7)),
    "singular affine": lambda root: _write_singular(root / IMAGE),
    "NaN or infinite": lambda root: _save(root / IMAGE, _with(np.nan)),
    "constant image": lambda root: _save(root / IMAGE, np.ones((6, 7, 8), np.float32)),
    "empty label": lambda root: _save(root / LABEL, _label(0)),
    "label value 7": lambda root: _save(root / LABEL, _label(7)),
    "no integers": lambda root: _save(root / LABEL, _label(0.5)),
    "same voxels as case0": lambda root: _save(root / IMAGE, _image(0)),
    "voxels of type complex64": lambda root: _save(root / IMAGE, _image(2).astype(np.complex64)),
    "has spacing": lambda root: _save(root / IMAGE, _image(2), np.diag([1, 1, 9, 1])),
    "has the case name of": lambda root: _save(root / "imagesTr/case2.nii", _image(9)),
    "listed in dataset.json but absent": lambda root: (_list(root, "case1", "case2"), (root / LABEL).unlink()),
    "have this case name": _copy_elsewhere,
    "case2_a.nii.gz of the same patient is to train on": _share_a_patient,
}


# how the line begins where it is not the file's own name
NAMED = {"listed in dataset.json but absent": LABEL}


@pytest.mark.parametrize("what", BROKEN)
def test_finds_the_broken_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"in_channels": 1, "label_names": ["background", "organ"]}))
    BROKEN[what](folder)
    assert main(["check", str(folder), "--profile", str(profile)]) == 1
    assert any(
        line.startswith(NAMED.get(what, "case2")) and what in line for line in capsys.readouterr().out.splitlines()
    )


def test_a_fold_that_leaves_nothing_to_train_on_is_one_problem_of_several(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _list(folder, "case2")
    _save(folder / LABEL, _label(0))
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"in_channels": 1, "fold": 0}))
    assert main(["check", str(folder), "--profile", str(profile)]) == 1
    said = capsys.readouterr()
    assert "leave nothing to train on with fold 0" in said.out
    assert "case2.nii.gz" in said.out
    assert "2 problems" in said.err


def test_a_sound_folder_is_ready(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder)]) == 0
    assert "4 cases: ready" in capsys.readouterr().out


def test_counts_the_cases_that_lack_a_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _save(folder / LABEL, _label(2))
    assert main(["check", str(folder)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "label value 0: 1312 voxels" in said
    assert "label value 1: 24 voxels, absent from 1 of 4 cases, such as case2.nii.gz" in said
    assert "label value 2: 8 voxels, absent from 3 of 4 cases, such as case0.nii.gz" in said


def test_names_a_class_that_no_label_holds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"label_names": ["background", "organ", "tumour"]}))
    assert main(["check", str(folder), "--profile", str(profile)]) == 1
    assert "mine.json  names the class tumour (label value 2), which no label holds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("knobs", "code"),
    [
        ({"label_values": [0, 7]}, 0),
        ({"label_values": [0, [1, 300]]}, 1),
        ({"label_names": ["background", "whole", "core"], "regions": [[7, 300], [300]]}, 0),
        ({"label_names": ["background", "whole", "core"], "regions": [[300], [7, 300]]}, 1),
    ],
)
def test_label_values_of_a_profile(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], knobs: dict[str, object], code: int
) -> None:
    for number in range(4):
        _save(folder / f"labelsTr/case{number}.nii.gz", _label(7))
    if "regions" in knobs:
        _save(folder / "labelsTr/case3.nii.gz", _label(300))
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"label_names": ["background", "organ"], **knobs}))
    assert main(["check", str(folder), "--profile", str(profile)]) == code
    said = capsys.readouterr()
    assert ("4 cases: ready" in said.out) == (code == 0)
    assert ("holds the label value 7, but the classes are 0, 1, 300" in said.out) == ("regions" not in knobs and code)
    assert ("share the label value 300, but core does not lie inside whole" in said.err) == (
        "regions" in knobs and code
    )
