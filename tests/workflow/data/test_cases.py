"""One finder for every caller: what it finds in a folder is what a run trains on, what it refuses a run refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from custom_networks.workflow import segmentation_data_list
from custom_networks.workflow.data.cases import shared_cases
from custom_networks.workflow.data.layouts.finder import find_cases

DICOM = bytes(128) + b"DICM"


def entry(name: str, suffix: str = ".nii.gz") -> dict[str, str]:
    return {"image": f"./imagesTr/{name}{suffix}", "label": f"labelsTr/{name}{suffix}"}


def pairs(*names: str, suffix: str = ".nii.gz", images: str = "imagesTr", labels: str = "labelsTr") -> list[str]:
    return [f"{folder}/{name}{suffix}" for name in names for folder in (images, labels)]


def write(root: Path, files: Sequence[str], index: object = None) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(DICOM)
    if index is not None:
        (root / "dataset.json").write_text(json.dumps(index))
    return root


def both(root: Path, **globs: str) -> list[dict]:
    """Return all cases of a run, whichever of its two lists they are in."""
    return [case for section in ("training", "validation") for case in segmentation_data_list(root, section, **globs)]


IMAGES, LABELS = {"image_glob": "imagesTr/*"}, {"label_glob": "labelsTr/*"}
LISTED = {"training": [entry("b"), entry("a")]}
# files, dataset.json, patterns, the images and labels that are found
SOUND: dict[str, tuple[list[str], object, dict[str, str], list[str]]] = {
    "Decathlon": (pairs("a", "b", "c"), LISTED, {}, pairs("a", "b")),
    "with validation": (
        pairs("a", "b", "c"),
        {**LISTED, "validation": [entry("c")]},
        {},
        pairs("a", "b", "c"),
    ),
    "no dataset.json": (pairs("a", "b"), None, {}, pairs("a", "b")),
    "no list": (pairs("a", "b"), {"labels": {"background": 0}}, {}, pairs("a", "b")),
    "empty list": (pairs("a", "b"), {"training": [], "validation": []}, {}, pairs("a", "b")),
    "NRRD, images alone": (
        pairs(*"abcdef", suffix=".nrrd"),
        None,
        {"image_glob": "imagesTr/*.nrrd"},
        pairs(*"abcdef", suffix=".nrrd"),
    ),
    "images alone, though listed": (pairs("a", "b", "c"), LISTED, IMAGES, pairs("a", "b", "c")),
    "labels alone": (
        [*pairs("a", "b", images="imagesTr", labels="masks"), *pairs("c")[1:]],
        LISTED,
        {"label_glob": "masks/*"},
        pairs("a", "b", labels="masks"),
    ),
    "both": (
        [*pairs("a", "b", suffix=".nii", images="mr", labels="masks"), *pairs("c")],
        LISTED,
        {"image_glob": "mr/*", "label_glob": "masks/*"},
        pairs("a", "b", suffix=".nii", images="mr", labels="masks"),
    ),
    "hidden and other files": (
        [*pairs("a", "b"), "imagesTr/.c.nii.gz", "imagesTr/notes.txt", "labelsTr/._a.nii.gz", "labelsTr/b.csv"],
        None,
        {},
        pairs("a", "b"),
    ),
    "DICOM series": (
        ["imagesTr/a/1", "labelsTr/a.nii.gz", "imagesTr/b/1.dcm", "labelsTr/b.nrrd", "imagesTr/empty/.1"],
        None,
        {},
        ["imagesTr/a", "labelsTr/a.nii.gz", "imagesTr/b", "labelsTr/b.nrrd"],
    ),
    "listed series": (
        ["ct/a/1", "ct/b/1", "masks/a.nii", "masks/b.nii"],
        {"training": [{"image": f"ct/{name}", "label": f"./masks/{name}.nii"} for name in "ab"]},
        {},
        ["ct/a", "masks/a.nii", "ct/b", "masks/b.nii"],
    ),
}


@pytest.mark.parametrize(("files", "index", "globs", "expected"), SOUND.values(), ids=SOUND)
def test_a_run_takes_what_is_found(tmp_path, files, index, globs, expected):
    root = write(tmp_path / "set", files, index)
    cases, problems, _ = find_cases(root, **globs)
    assert not problems
    assert sorted(path.relative_to(root).as_posix() for case in cases for path in (case.image, case.label)) == sorted(
        expected
    )
    found = {(str(case.image), str(case.label), case.name) for case in cases}
    assert {(case["image"], case["label"], case["case"]) for case in both(root, **globs)} == found
    assert {case.name for case in cases} <= set("abcdef")


# files, dataset.json, patterns, the files that are wrong
BROKEN: dict[str, tuple[list[str], object, dict[str, str], list[str]]] = {
    "image without label": (pairs("a", "b")[:-1], None, {}, ["imagesTr/b.nii.gz"]),
    "label without image": (pairs("b", "a")[1:], None, IMAGES, ["labelsTr/b.nii.gz"]),
    "both alone": (
        [*pairs("a"), "imagesTr/b.nii", "labelsTr/c.nii"],
        None,
        LABELS,
        ["imagesTr/b.nii", "labelsTr/c.nii"],
    ),
    "two images of one name": ([*pairs("a"), "imagesTr/a.nrrd"], None, IMAGES, ["imagesTr/a.nrrd"]),
    "two labels of one name": ([*pairs("a"), "labelsTr/a.nrrd"], LISTED, LABELS, ["labelsTr/a.nrrd"]),
    "absent image": (pairs("a", "b")[:2], LISTED, {}, ["imagesTr/b.nii.gz", "labelsTr/b.nii.gz"]),
    "absent label": (pairs("a", "b")[:3], LISTED, {}, ["labelsTr/b.nii.gz"]),
    "absent elsewhere": (
        pairs("a"),
        {"training": [entry("a"), {"image": "../b.nii", "label": "/nowhere/b.nii"}]},
        {},
        ["../b.nii", "/nowhere/b.nii"],
    ),
    "listed twice": (pairs("a", "b"), {"training": [entry("a"), entry("b"), entry("a")]}, {}, ["imagesTr/a.nii.gz"]),
    "listed by one name": (
        [*pairs("a", "b"), *pairs("b", suffix=".nii")],
        {"training": [entry("a")], "validation": [entry("b"), entry("b", ".nii")]},
        {},
        ["imagesTr/b.nii"],
    ),
    "image as label": (
        pairs("a", "b"),
        {"training": [entry("a"), {"image": "imagesTr/b.nii.gz", "label": "./imagesTr/b.nii.gz"}]},
        {},
        ["imagesTr/b.nii.gz"],
    ),
    "one label of two images": (
        pairs("a", "b"),
        {"training": [entry("a"), {"image": "imagesTr/b.nii.gz", "label": "labelsTr/a.nii.gz"}]},
        {},
        ["labelsTr/a.nii.gz"],
    ),
    "entry of text": (pairs("a"), {"training": ["imagesTr/a.nii.gz", entry("a")]}, {}, ["dataset.json"]),
    "entry of no image": (
        pairs("a"),
        {"training": [{"image": [], "label": "labelsTr/a.nii.gz"}]},
        {},
        ["dataset.json"],
    ),
    "entry of a number": (
        pairs("a"),
        {"training": [{"image": ["imagesTr/a.nii.gz", 1], "label": "labelsTr/a.nii.gz"}]},
        {},
        ["dataset.json"],
    ),
    "absent channel": (
        pairs("a"),
        {"training": [{"image": ["imagesTr/a.nii.gz", "imagesTr/a_t2.nii.gz"], "label": "labelsTr/a.nii.gz"}]},
        {},
        ["imagesTr/a_t2.nii.gz"],
    ),
    "nothing to train on": (pairs("a"), {"validation": [entry("a")]}, {}, ["dataset.json"]),
    "no list but an object": (pairs("a"), {"training": {"a": entry("a")}}, {}, ["dataset.json"]),
}


@pytest.mark.parametrize(("files", "index", "globs", "wrong"), BROKEN.values(), ids=BROKEN)
def test_a_run_refuses_the_first_problem_that_is_found(tmp_path, files, index, globs, wrong):
    root = write(tmp_path / "set", files, index)
    cases, problems, _ = find_cases(root, **globs)
    assert [problem.path for problem in problems] == [root / file for file in wrong]
    assert all(path.exists() for case in cases for path in (case.image, case.label))
    for section in ("training", "validation"):
        with pytest.raises(ValueError, match=r"\A[^\n]+; [^\n]+\Z") as error:
            segmentation_data_list(root, section, **globs)
        assert str(error.value).startswith(str(problems[0]))
        assert (f"1 of {len(wrong)} problems" in str(error.value)) is (len(wrong) > 1)


@pytest.mark.parametrize(
    ("files", "index", "globs", "words"),
    [
        ([], None, {}, "there is no .*dataset.json; set dataset_dir to a Decathlon folder, or to one with imagesTr"),
        ([], {"training": []}, {}, "dataset.json has no case in 'training' and there is no image in .*imagesTr; add"),
        (
            pairs("a"),
            None,
            {"image_glob": "scans/*"},
            r"no NIfTI, NRRD or MetaImage file matches .*scans/\*; .* or image_glob",
        ),
        (pairs("a")[:1], None, {}, r"has imagesTr but no labelsTr; put the labels there"),
        (pairs("a")[1:], None, {}, r"has labelsTr but no imagesTr; put the images there"),
        (["imagesTr/a.tif", *pairs("a")[1:]], None, {}, r"matches .*imagesTr/\*; set dataset_dir or image_glob"),
    ],
)
def test_nothing_to_be_found(tmp_path, files, index, globs, words):
    root = write(tmp_path, files, index)
    for look in (find_cases, both):
        with pytest.raises(FileNotFoundError, match=words):
            look(root, **globs)


def test_a_case_of_both_lists_ends_a_run(tmp_path):
    root = write(tmp_path, pairs("a", "b"), {"training": [entry("a"), entry("b")], "validation": [entry("b")]})
    cases, problems, _ = find_cases(root)
    assert not problems
    (shared,) = shared_cases(cases, root)
    assert shared.path == root / "imagesTr/b.nii.gz"
    for section in ("training", "validation"):
        with pytest.raises(
            ValueError, match=r"b.nii.gz is to validate on, but imagesTr/b.nii.gz of the same name is to"
        ):
            segmentation_data_list(root, section)
    assert not shared_cases([replace(case, section=None) for case in cases], root)
