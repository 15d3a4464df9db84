"""Files of folds, nnU-Net's and this project's: what they say is done, and what does not fit ends the run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from custom_networks.workflow import segmentation_data_list

NAMES = [f"case_{n}" for n in range(7)]


def dataset(root: Path, names=NAMES, **sections) -> Path:
    """Write empty files in imagesTr and labelsTr, and a dataset.json if there are sections."""
    for name in names:
        for folder in ("imagesTr", "labelsTr"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / f"{name}.nii.gz").touch()
    if sections:
        lists = {
            section: [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in members]
            for section, members in sections.items()
        }
        (root / "dataset.json").write_text(json.dumps(lists))
    return root


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def both(root: Path, **options) -> tuple[list[str], list[str]]:
    training, validation = (segmentation_data_list(root, part, **options) for part in ("training", "validation"))
    return [case["case"] for case in training], [case["case"] for case in validation]


@pytest.mark.parametrize("suffix", ["", ".nii.gz", ".nrrd"])
def test_a_file_of_folds_says_who_validates(tmp_path, suffix):
    folds = [[f"{name}{suffix}" for name in part] for part in (["case_6", "case_2"], NAMES[:2], NAMES[3:6])]
    file = write(tmp_path / "mine.json", {"folds": folds})
    root = dataset(tmp_path / "data")
    assert both(root, folds_file=file) == (NAMES[:2] + NAMES[3:6], ["case_2", "case_6"])
    assert both(root, folds_file=str(file), fold=1)[1] == NAMES[:2]
    assert both(root, folds_file=file, fold=2)[1] == NAMES[3:6]


def test_cases_that_a_file_does_not_know_are_left_out_with_a_warning(tmp_path, caplog):
    root = dataset(tmp_path / "data")
    file = write(tmp_path / "mine.json", {"folds": [["case_6", "case_2"], ["case_0"], ["case_1", "elsewhere"]]})
    with caplog.at_level(logging.WARNING):
        assert both(root, folds_file=file) == (["case_0", "case_1"], ["case_2", "case_6"])
    assert f"3 cases of the data set are in no fold of {file}; left out: case_3, case_4, case_5" in caplog.text
    assert f"1 names are of no case of the data set in {file}; left out: elsewhere" in caplog.text


def test_a_file_that_fits_warns_of_nothing(tmp_path, caplog):
    file = write(tmp_path / "mine.json", {"folds": [NAMES[:1], NAMES[1:], [], [], []]})
    with caplog.at_level(logging.WARNING):
        assert both(dataset(tmp_path / "data"), fold=1, folds_file=file) == (NAMES[:1], NAMES[1:])
    assert not caplog.records


SPLITS = [{"train": NAMES[2:], "val": NAMES[:2]}, {"train": NAMES[:2], "val": [f"{NAMES[2]}.nii.gz"]}]


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_splits_of_nnunet_are_taken_as_they_are(tmp_path, beside, listed):
    """Also where dataset.json lists a validation set: the file of splits was put there on purpose."""
    lists = {"training": NAMES[:6], "validation": NAMES[6:]} if listed else {}
    root = dataset(tmp_path / "data", **lists)
    file = write((root if beside else tmp_path) / "splits_final.json", SPLITS)
    given = {} if beside else {"folds_file": file}
    assert both(root, **given) == (NAMES[2:], NAMES[:2])
    assert both(root, fold=1, **given) == (NAMES[:2], NAMES[2:3])
    with pytest.raises(ValueError, match=rf"fold must lie between 0 and 1 with {file}, got 2; the folds are counted"):
        both(root, fold=2, **given)


def test_the_fold_all_trains_and_validates_on_every_case_and_says_so(tmp_path, caplog):
    root = dataset(tmp_path / "data", training=NAMES[:5], validation=NAMES[5:])
    for options in ({}, {"folds_file": write(tmp_path / "mine.json", {"folds": [["elsewhere"]]})}):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert both(root, fold="all", **options) == (NAMES, NAMES)
        (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
        assert "every case is trained on, so the validation is no estimate" in warning.message
    caplog.clear()
    with caplog.at_level(logging.INFO):  # an evaluation, which lists no training cases
        segmentation_data_list(root, "validation", fold="all")
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "validation: 7 of 7 cases" in caplog.text


def test_an_evaluation_of_a_part_says_of_which(tmp_path, caplog):
    root = dataset(tmp_path / "data")
    with caplog.at_level(logging.INFO):
        segmentation_data_list(root, "validation", fold=1)
    assert f"validation: 2 of 7 cases of {root} (imagesTr/* and labelsTr/*; fold 1, rank among the" in caplog.text
    assert "--fold all evaluates all" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        segmentation_data_list(root, "training", fold=1)
    assert "--fold all" not in caplog.text


def test_the_folds_of_a_bundle_are_for_its_own_data(tmp_path):
    root = dataset(tmp_path / "data")
    own = write(tmp_path / "own.json", {"folds": [NAMES[3:], NAMES[:3]]})
    others = write(tmp_path / "others.json", {"folds": [["hippocampus_003"], ["hippocampus_014"]]})
    assert both(root, default_folds=own) == (NAMES[:3], NAMES[3:])
    for default in (others, tmp_path / "none.json"):
        assert both(root, fold=1, default_folds=default)[1] == ["case_1", "case_6"]
    mine = write(tmp_path / "mine.json", {"folds": [NAMES[:1], NAMES[1:]]})
    assert both(root, folds_file=mine, default_folds=own)[1] == NAMES[:1]


# what a file that the user gave holds, and what is said of it
WRONG = {
    "absent": (None, "there is no file .*mine.json; correct the path"),
    "no case": (
        {"folds": [["a", "b", "c", "d"], ["e"]]},
        r"names no case of the data set: it has a, b, c, \.\.\., the",
    ),
    "no case of splits": ([{"train": ["a"], "val": ["b"]}], "names no case of the data set: it has a, b, the data set"),
    "a text": ({"folds": ["case_0", "case_1"]}, "has something else than a list of case names in fold 0; correct it"),
    "a number": ({"folds": [["case_0"], [1]]}, "has something else than a list of case names in fold 1; correct it"),
    "one text": ({"folds": "case_0"}, 'has no list "folds" of lists of case names; correct it'),
    "no folds": ({"fold": [["case_0"]]}, 'has no list "folds" of lists of case names; correct it'),
    "empty": ({"folds": []}, 'has no list "folds"'),
    "twice": ({"folds": [["case_0", "case_1"], ["case_0.nii.gz"]]}, "names case_0 twice; a case belongs to one fold"),
    "both sides": ([{"train": NAMES, "val": NAMES[:1]}], "has case_0 in train and in val of split 0; remove it"),
    "no val": ([{"train": NAMES}], "has something else than a list of case names in fold 0"),
    "a list of lists": ([NAMES[:3], NAMES[3:]], 'is a list, but not of objects with "train" and "val"'),
    "an empty list": ([], 'is a list, but not of objects with "train" and "val"'),
    "no JSON": ("{", r"is not valid JSON \(.*\); correct it"),
    "another value": ("3", 'has no list "folds"'),
    "too few": ({"folds": [NAMES[:2], NAMES[2:]]}, "fold must lie between 0 and 1 with .*mine.json, got 4"),
}


@pytest.mark.parametrize(("content", "words"), WRONG.values(), ids=WRONG)
def test_a_file_that_does_not_fit_ends_the_run(tmp_path, content, words):
    root, file = dataset(tmp_path / "data"), tmp_path / "mine.json"
    if content is not None:
        write(file, content)
    for section in ("training", "validation"):
        with pytest.raises((ValueError, FileNotFoundError), match=rf"\A[^\n]*{words}[^\n]*\Z") as error:
            segmentation_data_list(root, section, folds_file=file, fold=4 if "got 4" in words else 0)
        assert str(file) in str(error.value)


def test_a_file_of_folds_that_is_a_folder_or_a_broken_link(tmp_path):
    root = dataset(tmp_path / "data")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ValueError, match=r"folder\.json is a folder where a file is expected"):
        both(root, folds_file=tmp_path / "folder.json")
    (root / "splits_final.json").symlink_to("nowhere.json")
    with pytest.raises(ValueError, match=r"splits_final\.json is a link to nowhere\.json, which does not exist"):
        both(root)


@pytest.mark.parametrize("fold", ["one", "1", 1.0, True, None])
def test_a_fold_is_a_number_or_all(tmp_path, fold):
    with pytest.raises(ValueError, match=rf"fold must be a number or 'all', got {fold!r}; correct it"):
        both(dataset(tmp_path), fold=fold)


def test_a_section_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="section must be one of training, validation, got 'trainig'; correct it"):
        segmentation_data_list(dataset(tmp_path), "trainig")


def test_all_cases_of_a_subject_are_in_one_fold(tmp_path):
    names = [f"sub-0{subject}_ses-{session}" for subject in range(1, 7) for session in (1, 2)]
    root = dataset(tmp_path, names)
    assert both(root)[1] == [name for name in names if name[:6] in ("sub-01", "sub-06")]
    assert both(root, fold=3)[1] == ["sub-04_ses-1", "sub-04_ses-2"]


def test_all_cases_of_a_patient_are_in_one_fold_by_a_file(tmp_path):
    """Whatever the names look like, and for all folds together every case once."""
    names = [f"sub-{k:02d}" for k in range(12)]
    patients = {name: f"P{(7 * k) % 6}" for k, name in enumerate(names)}
    root = dataset(tmp_path, names)
    write(root / "patients.csv", "case,patient\n" + "".join(f"{name},{own}\n" for name, own in patients.items()))
    held_out = [both(root, fold=fold)[1] for fold in range(5)]
    assert sorted(name for part in held_out for name in part) == names
    assert held_out[1] == [name for name in names if patients[name] == "P1"]
    assert {patients[name] for name in held_out[0]} == {"P0", "P5"}
    for fold in range(5):
        training, validation = both(root, fold=fold)
        assert not {patients[name] for name in training} & {patients[name] for name in validation}


def test_the_file_of_patients_decides_after_every_other(tmp_path, caplog):
    root = dataset(tmp_path / "data")
    write(root / "patients.csv", "case,patient\n" + "".join(f"{name},{k % 2}\n" for k, name in enumerate(NAMES)))
    with caplog.at_level(logging.INFO):
        assert both(root)[1] == NAMES[::2]
    assert f"fold 0, rank among the sorted patients of {root / 'patients.csv'} modulo 5" in caplog.text
    own = write(tmp_path / "own.json", {"folds": [NAMES[:1], NAMES[1:]]})
    assert both(root, default_folds=own)[1] == both(root, folds_file=own)[1] == NAMES[:1]
    write(root / "splits_final.json", SPLITS)
    assert both(root)[1] == NAMES[:2]
    dataset(root, training=NAMES[:6], validation=NAMES[6:])
    (root / "splits_final.json").unlink()
    assert both(root)[1] == NAMES[6:]


def test_a_file_of_patients_that_does_not_fit_ends_the_run(tmp_path):
    root = dataset(tmp_path)
    file = write(root / "patients.csv", "case,patient\ncase_0,1\nelsewhere,1\n")
    with pytest.raises(ValueError, match=rf"\Aline 3 of {file} names elsewhere, which is no case of the data set"):
        both(root)
    write(file, "case,patient\n" + "".join(f"{name},one\n" for name in NAMES))
    with pytest.raises(ValueError, match=r"7 cases under .* leave nothing to train on with fold 0; add cases"):
        both(root)
