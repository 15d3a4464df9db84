from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from custom_networks.workflow import inference_data_list, segmentation_data_list
from custom_networks.workflow.data.cases import case_name
from tests.conftest import SHARED

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


def fake_series(folder: Path) -> Path:
    return touch(folder, "1.dcm", "2", content=bytes(128) + b"DICM" + bytes(8))


def names_of(cases) -> list[str]:
    assert all(case_name(case["image"]) == case_name(case["label"]) for case in cases)
    return [case_name(case["image"]) for case in cases]


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
    assert set(case) == {"image", "label"}
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


def test_folds_by_file_leave_out_unknown_cases_with_a_warning(tmp_path, caplog):
    folder = decathlon(tmp_path, training=[entry(n) for n in NAMES])
    folds = tmp_path / "folds.json"
    folds.write_text(json.dumps({"folds": [["case_6", "case_2"], ["case_0"], ["case_1", "elsewhere"], [], []]}))
    with caplog.at_level(logging.WARNING):
        training, validation = both(folder, fold=0, folds_file=folds)
    assert validation == ["case_2", "case_6"]
    assert training == ["case_0", "case_1"]
    assert "3 of 7 cases are in no fold" in caplog.text
    assert str(folds) in caplog.text


def test_a_complete_folds_file_warns_of_nothing(tmp_path, caplog):
    folder = decathlon(tmp_path, training=[entry(n) for n in NAMES])
    folds = tmp_path / "folds.json"
    folds.write_text(json.dumps({"folds": [NAMES[:1], NAMES[1:], [], [], []]}))
    assert both(folder, fold=1, folds_file=folds) == (NAMES[:1], NAMES[1:])
    assert not caplog.records


@pytest.mark.parametrize("content", [None, {"folds": [["other_1"], ["other_2"], [], [], []]}])
def test_folds_of_another_data_set_or_none_fall_back_to_the_rank(tmp_path, content, caplog):
    folder = decathlon(tmp_path, training=[entry(n) for n in NAMES])
    folds = tmp_path / "folds.json"
    if content:
        folds.write_text(json.dumps(content))
    assert both(folder, fold=1, folds_file=folds)[1] == ["case_1", "case_6"]
    assert not caplog.records


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
            ["images/a.nrrd has the case name of images/a.nii.gz", "a file name of its own"],
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
        FileNotFoundError, match=rf"no NIfTI or NRRD file matches .*missing/\*\.nii\.gz; set dataset_dir or {knob}"
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
        ({"training": [entry("a"), {"image": ["a.nii.gz"], "label": "a.nii.gz"}]}, ["entry 1 of 'training'"]),
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


@pytest.mark.parametrize("name", ["a.nii.gz", "b.nii", "c.nrrd"])
def test_inference_on_one_file(tmp_path, name):
    path = touch(tmp_path, name) / name
    assert inference_data_list(path) == [{"image": str(path)}]


def test_inference_on_a_folder_of_images(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.nrrd", ".hidden.nii.gz", "notes.txt")
    touch(tmp_path / "folder.nii.gz", "x.nii.gz")
    assert inference_data_list(str(tmp_path)) == [{"image": str(tmp_path / n)} for n in ("a.nrrd", "b.nii.gz")]


def test_inference_on_dicom(tmp_path):
    series = [fake_series(tmp_path / "study" / name) for name in ("10_T1", "11_T1")]
    touch(tmp_path / "study" / "reports", "a.pdf", content=b"x" * 200)
    assert inference_data_list(series[0]) == [{"image": str(series[0])}]
    assert inference_data_list(tmp_path / "study") == [{"image": str(path)} for path in series]


def test_inference_on_a_real_series():
    folders = sorted((SHARED / "data" / "HippoCrop_DICOM").glob("*/*"))
    if not folders:
        pytest.skip("the DICOM series are not at <repository>/../shared/data")
    assert inference_data_list(folders[0]) == [{"image": str(folders[0])}]
    assert inference_data_list(folders[0].parent) == [{"image": str(folders[0])}]


def test_inference_without_images(tmp_path):
    touch(tmp_path, "notes.txt", "photo.png", content=b"x" * 200)
    with pytest.raises(FileNotFoundError, match=rf"no NIfTI, NRRD or DICOM image in {tmp_path}; set dataset_dir"):
        inference_data_list(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere; set dataset_dir"):
        inference_data_list(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"photo\.png is not one of \.nii\.gz, \.nii, \.nrrd; convert it"):
        inference_data_list(tmp_path / "photo.png")


def test_inference_refuses_two_images_with_one_result(tmp_path):
    touch(tmp_path, "a.nii.gz", "a.nrrd", "b.nii")
    with pytest.raises(ValueError, match=r"1 names in .* occur twice, such as 'a'; their results would overwrite"):
        inference_data_list(tmp_path)


def test_inference_on_a_decathlon_folder(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no folder .*imagesTs; put the images to segment there"):
        inference_data_list(tmp_path)
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "imagesTs" / "case.nii.gz").touch()
    assert inference_data_list(tmp_path) == [{"image": str(tmp_path / "imagesTs" / "case.nii.gz")}]
