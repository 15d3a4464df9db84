"""One broken file in a folder: ``check`` finds it by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_networks.__main__ import main
from custom_networks.adapt.facts import read_facts
from custom_networks.workflow import check_data, segmentation_data_list
from tests.synthetic import write_nrrd


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


MORE, INDEX = "more/case2.nii.gz", "dataset.json"
# what is wrong: the file that the line begins with, and how it comes about
BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "has no label of the same name": (IMAGE, lambda root: (root / LABEL).unlink()),
    "has no image of the same name": (LABEL, lambda root: (root / IMAGE).unlink()),
    "has the case name of imagesTr/case2.nii;": (IMAGE, lambda root: _save(root / "imagesTr/case2.nii", _image(9))),
    "is listed in dataset.json but absent": (
        LABEL,
        lambda root: (_list(root, "case1", "case2"), (root / LABEL).unlink()),
    ),
    "is listed twice in 'training' of dataset.json": (IMAGE, lambda root: _list(root, "case2", "case2")),
    "has the case name of imagesTr/case2.nii.gz": (MORE, _copy_elsewhere),
    "no image or no label in entry 0 of 'training'": (INDEX, lambda root: _list(root, training=[{"image": IMAGE}])),
    "has no case in 'training'": (INDEX, lambda root: _list(root, validation=[{"image": IMAGE, "label": LABEL}])),
    "has 'validation' as no list": (INDEX, lambda root: _list(root, "case2", validation="imagesTr")),
    "is truncated": (IMAGE, lambda root: (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:200])),
    "is empty": (LABEL, lambda root: (root / LABEL).write_bytes(b"")),
    "has shape": (LABEL, lambda root: _save(root / LABEL, _label(shape=(6, 7, 9)))),
    "another affine": (LABEL, lambda root: _save(root / LABEL, _label(), np.diag([1, 1, 2, 1]))),
    "2 channels of": (IMAGE, lambda root: _save(root / IMAGE, _image(2, 6, 7, 8, 2))),
    "has 2 channels where": (LABEL, lambda root: _save(root / LABEL, np.stack([_label()] * 2, -1))),
    "2 axes": (IMAGE, lambda root: _save(root / IMAGE, _image(2, 6, 7))),
    "1 NaN or infinite": (IMAGE, lambda root: _save(root / IMAGE, _with(np.nan))),
    "holds the label value 7": (LABEL, lambda root: _save(root / LABEL, _label(7))),
    "holds the label value 0.5, which is no integer": (LABEL, lambda root: _save(root / LABEL, _label(0.5))),
    "singular affine": (IMAGE, lambda root: _write_singular(root / IMAGE)),
    "constant image": (IMAGE, lambda root: _save(root / IMAGE, np.ones((6, 7, 8), np.float32))),
    "holds complex numbers": (IMAGE, lambda root: _save(root / IMAGE, _image(2).astype(np.complex64))),
}
# what a run takes: it warns of an empty label, and does not look for the rest
CHECK_ALONE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "is all background": (LABEL, lambda root: _save(root / LABEL, _label(0))),
    "same voxels as imagesTr/case0": (IMAGE, lambda root: _save(root / IMAGE, _image(0))),
    "has spacing": (IMAGE, lambda root: _save(root / IMAGE, _image(2), np.diag([1, 1, 9, 1]))),
    "imagesTr/case2_a.nii.gz of the same patient is to train on": ("imagesTr/case2_b.nii.gz", _share_a_patient),
    "but imagesTr/case2.nii.gz of the same name is to train on": (
        IMAGE,
        lambda root: _list(root, "case2", validation=[{"image": IMAGE, "label": LABEL}]),
    ),
}


def _run(root: Path, **globs: str) -> list[dict]:
    """Look at the data as a training does before it begins, and return the cases."""
    sections = {part: segmentation_data_list(root, part, **globs) for part in ("training", "validation")}
    check_data(1, ["background", "organ"], **sections)
    return [*sections["training"], *sections["validation"]]


@pytest.mark.parametrize("what", [*BROKEN, *CHECK_ALONE])
def test_finds_the_broken_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"in_channels": 1, "label_names": ["background", "organ"]}))
    file, damage = (BROKEN | CHECK_ALONE)[what]
    damage(folder)
    assert main(["check", str(folder), "--profile", str(profile)]) == 1
    lines = [line.partition(" ") for line in capsys.readouterr().out.splitlines() if what in line]
    assert [(name, said.lstrip().startswith(str(folder))) for name, _, said in lines] == [(file, False)]


@pytest.mark.parametrize("what", BROKEN)
def test_a_run_names_the_same_file(folder: Path, what: str) -> None:
    file, damage = BROKEN[what]
    damage(folder)
    with pytest.raises(ValueError, match=rf"\A{re.escape(str(folder / file))} .*{re.escape(what)}[^\n]+\Z"):
        _run(folder)


def test_six_pairs_of_nrrd_are_six_for_every_caller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the pattern of the images alone, with which the two finders of before disagreed."""
    for number in range(6):
        for part, voxels in (("imagesTr", _image(number)), ("labelsTr", _label())):
            _save(tmp_path / "nifti.nii.gz", voxels)
            (tmp_path / part).mkdir(exist_ok=True)
            write_nrrd(tmp_path / "nifti.nii.gz", tmp_path / part / f"case{number}.nrrd")
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"image_glob": "imagesTr/*.nrrd", "label_names": ["background", "organ"]}))
    names = [f"case{number}.nrrd" for number in range(6)]
    listed = _run(tmp_path, image_glob="imagesTr/*.nrrd")
    assert sorted(Path(case[key]).name for case in listed for key in ("image", "label")) == sorted(2 * names)
    assert main(["check", str(tmp_path), "--profile", str(profile)]) == 0
    assert "6 cases: ready" in capsys.readouterr().out
    assert [image.path.name for image in read_facts(tmp_path, "imagesTr/*.nrrd").images] == names


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
    assert "labelsTr/case2.nii.gz" in said.out
    assert "2 problems" in said.err


def test_a_sound_folder_is_ready(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder)]) == 0
    assert "4 cases: ready" in capsys.readouterr().out


def test_patterns_of_another_layout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As ``adapt`` takes them; without them the folder's message names the arguments."""
    for old, new in (("imagesTr", "mr"), ("labelsTr", "masks")):
        (folder / old).rename(folder / new)
    assert main(["check", str(folder), "--images", "mr/*.nii.gz", "--labels", "masks/*.nii.gz"]) == 0
    assert capsys.readouterr().out.endswith("4 cases: ready\n")
    assert main(["check", str(folder)]) == 1
    assert "give patterns: --images and --labels of check and adapt" in capsys.readouterr().err


def test_counts_the_cases_that_lack_a_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _save(folder / LABEL, _label(2))
    assert main(["check", str(folder)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "label value 0: 1312 voxels" in said
    assert "label value 1: 24 voxels, absent from 1 of 4 cases, such as labelsTr/case2.nii.gz" in said
    assert "label value 2: 8 voxels, absent from 3 of 4 cases, such as labelsTr/case0.nii.gz" in said


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
    unnamed = "holds the label value 7, which no entry of label_values names ([0, [1, 300]] for background, organ)"
    assert (unnamed in said.out) == ("regions" not in knobs and code)
    assert ("share the label value 300, but core does not lie inside whole" in said.err) == (
        "regions" in knobs and code
    )


WRONG_KNOBS = {
    "image_glob": "/data/*.nii.gz",
    "label_names": "background",
    "label_values": 3,
    "regions": "12",
    "in_channels": "1",
    "fold": 1.5,
    "folds_file": 7,
}


@pytest.mark.parametrize("knob", WRONG_KNOBS)
def test_a_profile_whose_knobs_are_of_another_kind(folder: Path, tmp_path: Path, capsys, knob: str) -> None:
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({knob: WRONG_KNOBS[knob], "resume_ckpt": "absent.pt"}))
    assert main(["check", str(folder), "--profile", str(profile)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {profile}: {knob} must be ")
    assert repr(WRONG_KNOBS[knob]) in said
    assert len(said.splitlines()) == 1


def test_a_pattern_that_is_absolute(folder: Path, capsys) -> None:
    assert main(["check", str(folder), "--images", "/data/*", "--labels", "labelsTr/*"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: image_glob must be null or a pattern relative to dataset_dir, got"
    )
