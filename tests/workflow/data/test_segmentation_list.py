from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom_networks.workflow import segmentation_data_list
from custom_networks.workflow.data.cases import case_name

NAMES = [f"case_{n}" for n in range(7)]


def entry(name: str) -> dict[str, str]:
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}


def decathlon(folder: Path, **sections) -> Path:
    """Write a dataset.json and empty files in place of what it lists."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(sections))
    for listed in (entry for section in sections.values() for entry in section if isinstance(entry, dict)):
        for path in listed.values():
            touch((folder / path).parent, Path(path).name)
    return folder


def touch(folder: Path, *names: str, content: bytes = b"") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content)
    return folder


def names_of(cases) -> list[str]:
    assert all(case_name(case["image"]) == case_name(case["label"]) == case["case"] for case in cases)
    return [case["case"] for case in cases]


def both(folder: Path, **options) -> tuple[list[str], list[str]]:
    return tuple(names_of(segmentation_data_list(folder, s, **options)) for s in ("training", "validation"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b_1.nii.gz", "b_1"),
        ("b.NII", "b"),
        ("x.y.nrrd", "x.y"),
        ("series/13_Crop", "13_Crop"),
        ("a.nii.dcm", "a.nii.dcm"),
    ],
)
def test_case_name_drops_image_suffixes_only(path, name):
    assert case_name(path) == name


def test_paths_are_those_of_the_folder(tmp_path):
    folder = decathlon(tmp_path, training=[entry(n) for n in NAMES])
    case = segmentation_data_list(folder, "validation")[0]
    assert set(case) == {"image", "label", "case"}
    assert Path(case["image"]).resolve() == (folder / "imagesTr/case_0.nii.gz").resolve()
    assert Path(case["label"]).resolve() == (folder / "labelsTr/case_0.nii.gz").resolve()


def test_folds_by_rank_of_the_sorted_names(tmp_path):
    folder = decathlon(tmp_path, training=[entry(n) for n in reversed(NAMES)])
    validated = []
    for fold in range(5):
        training, validation = both(folder, fold=fold)
        assert sorted(validation) == [n for i, n in enumerate(NAMES) if i % 5 == fold]
        assert sorted(training + validation) == NAMES
        validated += validation
    assert sorted(validated) == NAMES


def test_a_validation_list_is_the_validation_set_whatever_the_fold(tmp_path):
    folder = decathlon(tmp_path, training=[entry("a"), entry("b")], validation=[entry("c")])
    for fold in (0, 3):
        assert both(folder, fold=fold) == (["a", "b"], ["c"])


def test_an_empty_validation_list_means_folds(tmp_path):
    folder = decathlon(tmp_path, training=[entry(n) for n in NAMES], validation=[])
    assert both(folder, fold=2)[1] == ["case_2"]


def test_globs_pair_images_and_labels_by_name(tmp_path):
    touch(tmp_path / "scans", *(f"{n}.nrrd" for n in NAMES), ".hidden.nrrd")
    touch(tmp_path / "labelsTr", *(f"{n}.nii.gz" for n in reversed(NAMES)))
    training, validation = both(tmp_path, image_glob="scans/*.nrrd", fold=1)
    assert validation == ["case_1", "case_6"]
    assert sorted(training + validation) == NAMES
    touch(tmp_path / "masks", *(f"{n}.nii" for n in NAMES))
    cases = segmentation_data_list(tmp_path, "validation", image_glob="scans/*.nrrd", label_glob="masks/*.nii", fold=1)
    assert cases[0]["label"] == str(tmp_path / "masks/case_1.nii")


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (["a.nii.gz", "b.nii.gz"], ["a.nii.gz"], ["images/b.nii.gz has no label", "add"]),
        (["a.nii.gz"], ["a.nii.gz", "b.nii.gz"], ["labels/b.nii.gz has no image", "add"]),
        (
            ["a.nii.gz", "b.nii.gz"],
            ["a.nii.gz", "c.nii.gz"],
            ["images/b.nii.gz has no label", "1 of 2 problems", "check"],
        ),
        (
            ["a.nii.gz", "a.nrrd"],
            ["a.nii.gz"],
            ["images/a.nrrd has the case name of images/a.nii.gz", "a name of its own"],
        ),
    ],
)
def test_globs_that_do_not_pair_up(tmp_path, images, labels, words):
    touch(tmp_path / "images", *images)
    touch(tmp_path / "labels", *labels)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        segmentation_data_list(tmp_path, "training", image_glob="images/*", label_glob="labels/*")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("knob", ["image_glob", "label_glob"])
def test_a_glob_without_a_match_names_its_knob(tmp_path, knob):
    touch(tmp_path / "found", "a.nii.gz")
    globs = {"image_glob": "found/*", "label_glob": "found/*", knob: "missing/*.nii.gz"}
    with pytest.raises(
        FileNotFoundError,
        match=rf"no NIfTI, NRRD or MetaImage file matches .*missing/\*\.nii\.gz; set dataset_dir or {knob}",
    ):
        segmentation_data_list(tmp_path, "training", **globs)


def test_missing_folder_and_missing_index(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no data set folder .*nowhere; set dataset_dir"):
        segmentation_data_list(tmp_path / "nowhere", "training")
    with pytest.raises(FileNotFoundError, match=r"there is no .*dataset\.json; set dataset_dir"):
        segmentation_data_list(tmp_path, "training")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"training": [], "validation": [entry("a")]}, ["no case in 'training'", "add at least one case"]),
        ({"training": "imagesTr"}, ["'training' as no list", "one image and one label"]),
        ({"training": ["imagesTr/a.nii.gz"]}, ["entry 0 of 'training'", "no image or no label", "add"]),
        ({"training": [entry("a"), {"image": "imagesTr/b.nii.gz"}]}, ["entry 1 of 'training'", "no label", "add"]),
        ({"training": [entry("a"), {"label": "labelsTr/b.nii.gz"}]}, ["entry 1 of 'training'", "no image", "add"]),
        ({"training": [entry("a"), {"image": ["a.nii.gz"], "label": ["a.nii.gz"]}]}, ["entry 1 of 'training'"]),
        ({"training": [entry("a")], "validation": [{"image": "b.nii.gz"}]}, ["entry 0 of 'validation'"]),
    ],
)
def test_unusable_lists(tmp_path, sections, words):
    folder = tmp_path
    (folder / "dataset.json").write_text(json.dumps(sections))
    for name in ("a", "b"):
        touch(folder / "imagesTr", f"{name}.nii.gz")
        touch(folder / "labelsTr", f"{name}.nii.gz")
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        segmentation_data_list(folder, "validation")
    for word in [str(folder / "dataset.json"), *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("content", [b'{"training": [', b"[1, 2]", b"\xff\xfe\x00"])
def test_an_unreadable_index_is_named(tmp_path, content):
    touch(tmp_path, "dataset.json", content=content)
    with pytest.raises(ValueError, match=r"dataset\.json is not (valid JSON|a JSON object).*; correct it"):
        segmentation_data_list(tmp_path, "training")


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_does_not_exist(tmp_path, fold):
    with pytest.raises(ValueError, match=rf"fold must lie between 0 and 4, got {fold};"):
        segmentation_data_list(decathlon(tmp_path, training=[entry("a")]), "training", fold=fold)


@pytest.mark.parametrize(("count", "fold", "left"), [(3, 4, "validate on"), (1, 0, "train on")])
@pytest.mark.parametrize("section", ["training", "validation"])
def test_a_fold_that_leaves_nothing(tmp_path, count, fold, left, section):
    folder = decathlon(tmp_path, training=[entry(n) for n in NAMES[:count]])
    with pytest.raises(
        ValueError, match=rf"{count} cases under .* leave nothing to {left} with fold {fold}; add cases"
    ):
        segmentation_data_list(folder, section, fold=fold)
