"""nnU-Net's raw folders: channels in files of their own, and what is wrong with them by its name."""

from __future__ import annotations

import pytest

from custom_networks.workflow import segmentation_data_list
from custom_networks.workflow.data.layouts.finder import find_cases

INDEX = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "a": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def raw(*cases: str, channels: int = 2, ending: str = ".nii.gz") -> list[str]:
    images = [f"imagesTr/{case}_{n:04d}{ending}" for case in cases for n in range(channels)]
    return [*images, *(f"labelsTr/{case}{ending}" for case in cases)]


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("index", [INDEX, None])
def test_the_channels_of_a_case_are_one_image(write, ending, index):
    files = raw("la_003", "b", ending=ending)
    root = write(*files, "imagesTs/c_0000.nii.gz", index=index and {**INDEX, "file_ending": ending})
    cases, problems, layout = find_cases(root)
    assert not problems
    assert layout == "nnU-Net's raw folder, 2 channels per case"
    assert [case.name for case in cases] == ["b", "la_003"]
    assert cases[1].images == tuple(root / f"imagesTr/la_003_000{n}{ending}" for n in (0, 1))
    (entry,) = segmentation_data_list(root, "validation")
    assert entry == {
        "image": [str(root / f"imagesTr/b_000{n}{ending}") for n in (0, 1)],
        "label": str(root / f"labelsTr/b{ending}"),
        "case": "b",
    }


def test_one_channel_is_one_path(write):
    root = write(*raw("a", "b", channels=1), index={**INDEX, "channel_names": {"0": "CT"}})
    assert segmentation_data_list(root, "training")[0]["image"] == str(root / "imagesTr/b_0000.nii.gz")


def test_files_of_another_ending_are_none_of_it(write):
    root = write(*raw("a", "b"), "imagesTr/a_0000.nrrd", "imagesTr/a_0000.json", "labelsTr/a.nrrd", index=INDEX)
    cases, problems, _ = find_cases(root)
    assert not problems
    assert {path.suffix for case in cases for path in (*case.images, case.label)} == {".gz"}
    (root / "dataset.json").unlink()
    assert [str(problem).partition(";")[0] for problem in find_cases(root).problems] == [
        f"{root}/labelsTr/a.nrrd has the case name of labelsTr/a.nii.gz",
        f"{root}/imagesTr/a_0000.nrrd has the case name of imagesTr/a_0000.nii.gz",
    ]


# files beside those of cases a and b, files that are absent, entries of dataset.json, file and words of the problem
BROKEN = {
    "channel": (
        [],
        ["imagesTr/b_0001.nii.gz"],
        {},
        "imagesTr/b_0001.nii.gz is absent, but dataset.json names 2 channels",
    ),
    "first": (
        [],
        ["imagesTr/b_0000.nii.gz"],
        {},
        "imagesTr/b_0000.nii.gz is absent, but dataset.json names 2 channels",
    ),
    "extra": (
        ["imagesTr/b_0002.nii.gz"],
        [],
        {},
        "imagesTr/b_0002.nii.gz is channel 2, counted from 0, but dataset.json names 2 channels",
    ),
    "label": ([], ["labelsTr/b.nii.gz"], {"numTraining": 1}, "imagesTr/b_0000.nii.gz has no label b in labelsTr"),
    "image": (["labelsTr/c.nii.gz"], [], {"numTraining": 3}, "labelsTr/c.nii.gz has no image c_0000 in imagesTr"),
    "number": (
        ["imagesTr/c.nii.gz"],
        [],
        {},
        "imagesTr/c.nii.gz has no number of a channel as the other images; call it c_0000.nii.gz",
    ),
    "count": ([], [], {"numTraining": 20}, "dataset.json says 20 in numTraining, but labelsTr holds 2 labels"),
    "names": (
        [],
        [],
        {"channel_names": {"0": "CT"}},
        "imagesTr/a_0001.nii.gz is channel 1, counted from 0, but dataset.json names 1 channels",
    ),
}


@pytest.mark.parametrize(("more", "absent", "entries", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_named(write, more, absent, entries, words):
    root = write(*raw("a", "b"), *more, index={**INDEX, **entries})
    for file in absent:
        (root / file).unlink()
    with pytest.raises(ValueError, match=rf"\A{root}/{words}[^\n]*\Z"):
        segmentation_data_list(root, "training")


def test_a_channel_that_other_cases_have(write):
    root = write(*raw("a", "b"))
    (root / "imagesTr/b_0001.nii.gz").unlink()
    assert [str(problem) for problem in find_cases(root).problems] == [
        f"{root}/imagesTr/b_0001.nii.gz is absent, but other cases have 2 channels; add the file of this channel"
    ]


def test_files_that_the_index_lists(write):
    entries = {name: {"images": [f"x/{name}.nii.gz", f"y/{name}.nii.gz"], "label": f"z/{name}.nii.gz"} for name in "ab"}
    root = write(*(f"{folder}/{name}.nii.gz" for folder in "xyz" for name in "ab"), index={**INDEX, "dataset": entries})
    cases, problems, layout = find_cases(root)
    assert not problems
    assert layout == "nnU-Net's raw folder, listed in dataset.json"
    assert [(case.name, case.images) for case in cases] == [
        (name, (root / f"x/{name}.nii.gz", root / f"y/{name}.nii.gz")) for name in "ab"
    ]
    (root / "y/b.nii.gz").unlink()
    assert [problem.path for problem in find_cases(root).problems] == [root / "y/b.nii.gz"]
    write(index={**INDEX, "dataset": {"a": {"images": "x/a.nii.gz", "label": "z/a.nii.gz"}}})
    assert "no images or no label for the case a" in find_cases(root).problems[0].what


def test_lists_of_version_1_whose_files_have_numbers(write):
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "ab"]
    root = write(*raw("a", "b"), index={"modality": {"0": "T1", "1": "T2"}, "training": listed})
    cases, problems, _ = find_cases(root)
    assert not problems
    assert [(case.name, len(case.images)) for case in cases] == [("a", 2), ("b", 2)]
    (root / "imagesTr/b_0001.nii.gz").unlink()
    assert [problem.path.name for problem in find_cases(root).problems] == ["b_0001.nii.gz"]


@pytest.mark.parametrize("index", [None, INDEX])
def test_cases_that_end_in_four_digits_are_no_channels(write, index):
    names = ["amos_0001", "amos_0004"]
    root = write(*(f"{folder}/{name}.nii.gz" for folder in ("imagesTr", "labelsTr") for name in names), index=index)
    assert [(case.name, len(case.images)) for case in find_cases(root).cases] == [(name, 1) for name in names]


def test_a_format_that_is_not_read(write):
    root = write(*raw("a", ending=".png"), index={**INDEX, "file_ending": ".png"})
    with pytest.raises(
        ValueError, match=r"dataset\.json says \.png in file_ending; convert the files to one of \.nii\.gz"
    ):
        find_cases(root)
