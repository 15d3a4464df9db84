"""Two folders: which files belong together, what is compared, and what is refused."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest

from custom_networks.workflow.report.page.write import write_report
from tests.evaluate.boxes import AFFINE, SHIFTED, box, save
from tests.synthetic import write_nrrd


def write_pairs(folder, cases=("a", "b"), shift=1):
    for name in cases:
        save(folder / "labels" / f"{name}.nii.gz", box())
        save(folder / "predictions" / f"{name}_seg.nii.gz", box(shift))


def approx(row):
    return pytest.approx({**row, "reference_volume": 128, "prediction_volume": 128}, rel=1e-5)


def test_a_shifted_box_is_measured_as_by_hand(tmp_path, evaluate):
    write_pairs(tmp_path)
    save(tmp_path / "predictions" / "b_seg.nii.gz", box())
    found = evaluate("predictions", "labels")
    assert list(found.rows) == [("a", "1"), ("b", "1")]
    assert found.rows["a", "1"] == approx(SHIFTED)
    perfect = dict.fromkeys(SHIFTED, 0.0) | {"dice": 1.0, "nsd": 1.0, "iou": 1.0}
    assert found.rows["b", "1"] == approx(perfect)
    assert found.summary["classes"]["1"]["dice"] == {"mean": 0.875, "std": 0.125, "n": 2}
    assert found.summary["surface_tolerance_mm"] == 1.0
    assert found.summary["values"] == {"1": [1]}
    assert re.search(r"^1 +Dice +0\.875 +0\.750 to 1\.000 +2 +0\.750 +a$", found.out, re.MULTILINE)
    assert re.search(r"^1 +NSD \(1 mm\) +0\.857 +0\.714 to 1\.000 +2 +0\.714 +a$", found.out, re.MULTILINE)
    assert re.search(r"^1 +HD95 \(mm\) +1\.000 +0\.000 to 2\.000 +2 +2\.000 +a$", found.out, re.MULTILINE)
    assert found.out.endswith(f"a page to look at: custom_networks report {tmp_path / 'result'}\n")


@pytest.mark.parametrize(
    ("given", "profile", "tolerance"),
    [
        ({}, {}, 1.0),
        ({"tolerance": "2"}, {"surface_tolerance": 3.0}, 2.0),
        ({}, {"surface_tolerance": 3.0, "spacing": [4.0, 5.0, 6.0]}, 3.0),
        ({}, {"surface_tolerance": None, "spacing": [6.0, 4.0, 5.0]}, 5.0),
    ],
)
def test_the_tolerance_is_the_given_one_or_that_of_the_profile_or_of_the_labels(
    tmp_path, evaluate, given, profile, tolerance
):
    write_pairs(tmp_path)
    if profile:
        (tmp_path / "mine.json").write_text(json.dumps({"label_names": ["background", "box"], **profile}))
        given = {**given, "profile": tmp_path / "mine.json"}
    found = evaluate("predictions", "labels", **given)
    assert found.summary["surface_tolerance_mm"] == tolerance
    assert found.rows["a", "box" if profile else "1"]["nsd"] == pytest.approx(40 / 56 if tolerance < 2 else 1, rel=1e-5)


def test_names_folders_and_formats_of_predictions(tmp_path, evaluate):
    """As ours and as nnU-Net's are called, at any depth, in other formats than the labels."""
    for name in "abcd":
        save(tmp_path / "labels" / f"{name}{'_seg' * (name == 'd')}.nii.gz", box())
    save(tmp_path / "predictions" / "a_seg.nii.gz", box(1))
    save(tmp_path / "predictions" / "b.nii", box(1))
    (tmp_path / "predictions" / "deep").mkdir()
    write_nrrd(save(tmp_path / "c.nii", box(1)), tmp_path / "predictions" / "deep" / "c_seg.nrrd")
    save(tmp_path / "predictions" / "deep" / "d.nii.gz", box(1))
    found = evaluate("predictions", "labels")
    assert [case for case, _ in found.rows] == list("abcd")
    assert all(row == approx(SHIFTED) for row in found.rows.values())


def test_every_value_of_the_labels_is_a_class_where_nothing_names_them(tmp_path, evaluate):
    save(tmp_path / "labels" / "a.nii.gz", box() + box(4, 7))
    save(tmp_path / "predictions" / "a.nii.gz", box())
    found = evaluate("predictions", "labels")
    assert found.summary["values"] == {"1": [1], "7": [7]}
    assert found.rows["a", "1"]["dice"] == 1
    missed = found.rows["a", "7"]
    diagonal = float(np.linalg.norm([24, 10, 9]))
    assert (missed["dice"], missed["nsd"], missed["rvd"]) == (0, 0, -1)
    assert missed["hd95"] == pytest.approx(diagonal, rel=1e-5)
    assert re.search(r"^7 +HD95 \(mm\) +27\.514 +none +1 +27\.514 +a$", found.out, re.MULTILINE)


def write_nnunet(folder, labels):
    """Write a raw folder of nnU-Net, whose images have the number of their channel, and predictions as its own are."""
    for name in ("la_1", "la_2"):
        save(folder / "data" / "imagesTr" / f"{name}_0000.nii.gz", box().astype(np.float32))
        save(folder / "data" / "labelsTr" / f"{name}.nii.gz", box() + box(4, 2))
        save(folder / "predictions" / f"{name}.nii.gz", box(1) + box(5, 2))
    index = {"labels": labels, "channel_names": {"0": "MR"}, "file_ending": ".nii.gz", "numTraining": 2}
    (folder / "data" / "dataset.json").write_text(json.dumps(index))


@pytest.mark.parametrize("labels", ["data", "data/labelsTr"])
def test_a_data_set_of_nnunet_or_its_folder_of_labels(tmp_path, evaluate, labels):
    write_nnunet(tmp_path, {"background": 0, "front": 1, "back": 2})
    found = evaluate("predictions", labels)
    assert set(found.rows) == {(case, name) for case in ("la_1", "la_2") for name in ("front", "back")}
    assert all(row == approx(SHIFTED) for row in found.rows.values())
    assert ("files" in found.summary and bool(found.summary["files"])) is (labels == "data")


def test_regions_overlap(tmp_path, evaluate):
    write_nnunet(tmp_path, {"background": 0, "whole": [1, 2], "back": [2]})
    found = evaluate("predictions", "data")
    assert found.summary["values"] == {"whole": [1, 2], "back": [2]}
    assert found.rows["la_1", "back"] == approx(SHIFTED)
    # two boxes in a row, 4 + 4 voxels long: 7 of 8 planes in common
    assert found.rows["la_1", "whole"]["dice"] == pytest.approx(7 / 8)
    assert found.rows["la_1", "whole"]["reference_volume"] == 256


def test_values_of_one_class_and_voxels_without_a_label(tmp_path, evaluate):
    save(tmp_path / "labels" / "a.nii.gz", box(0, 50) + box(4, 60) + 255 * (box(8, 1) > 0).astype(np.uint8))
    save(tmp_path / "predictions" / "a.nii.gz", box(0, 50) + box(4, 50) + box(8, 50))
    profile = {"label_names": ["background", "box"], "label_values": [0, [50, 60]], "ignore_value": 255}
    (tmp_path / "mine.json").write_text(json.dumps(profile))
    found = evaluate("predictions", "labels", profile=tmp_path / "mine.json")
    assert found.rows["a", "box"]["dice"] == 1
    assert found.rows["a", "box"]["prediction_volume"] == 256


def test_a_missing_prediction_is_an_error_unless_the_cases_are_named(tmp_path, evaluate):
    write_pairs(tmp_path, cases="abcd")
    for name in "bd":
        (tmp_path / "predictions" / f"{name}_seg.nii.gz").unlink()
    found = evaluate("predictions", "labels")
    assert f"2 of 4 cases of {tmp_path / 'labels'} have no prediction in {tmp_path / 'predictions'}: b, d;" in found.err
    assert not (tmp_path / "result").exists()
    assert {case for case, _ in evaluate("predictions", "labels", cases="a,c").rows} == {"a", "c"}
    assert {case for case, _ in evaluate("predictions", "labels", cases=["a", "c"]).rows} == {"a", "c"}
    folds = tmp_path / "folds.json"
    folds.write_text(json.dumps({"folds": [["a"], ["b"], ["c"]]}))
    assert {case for case, _ in evaluate("predictions", "labels", folds_file=folds, fold=2).rows} == {"c"}
    assert "1 of 3 cases" in evaluate("predictions", "labels", folds_file=folds).err
    assert "has the folds 0 to 2, got --fold 3" in evaluate("predictions", "labels", folds_file=folds, fold=3).err
    assert "--cases names x, of which there is no label" in evaluate("predictions", "labels", cases="a,x").err


def test_a_prediction_without_a_label_is_named(tmp_path, evaluate, caplog):
    write_pairs(tmp_path)
    stray = save(tmp_path / "predictions" / "stray.nii.gz", box())
    found = evaluate("predictions", "labels", cases="a")
    assert caplog.messages == [f"predictions without a label in {tmp_path / 'labels'} are left out: {stray}"]
    assert list(found.rows) == [("a", "1")]


def test_two_predictions_of_a_case_are_refused(tmp_path, evaluate):
    write_pairs(tmp_path)
    save(tmp_path / "predictions" / "fold_0" / "a.nii.gz", box())
    assert "are both predictions of the case a; move one of them" in evaluate("predictions", "labels").err


@pytest.mark.parametrize(
    ("name", "voxels", "affine", "message"),
    [
        (
            "shape",
            box()[:, :, 1:],
            AFFINE,
            r"a_seg.nii.gz has shape \(12, 10, 8\) but its label .*a.nii.gz \(12, 10, 9\)",
        ),
        (
            "place",
            box(),
            AFFINE + np.eye(4)[:, [3]] @ [[0, 0, 0, 0]] + np.diag([0, 0, 0.1, 0]),
            "by up to 0.8 mm; bring",
        ),
        ("channels", np.stack([box()] * 2, -1), AFFINE, "a_seg.nii.gz has 2 channels where one"),
        ("value", box(0, 3), AFFINE, r"a_seg.nii.gz holds the label value 3, but the classes of the labels in .* are"),
        ("fraction", box() * np.float32(0.5), AFFINE, "which is no integer"),
    ],
)
def test_what_does_not_fit_its_label_is_refused(tmp_path, evaluate, name, voxels, affine, message):
    write_pairs(tmp_path)
    save(tmp_path / "predictions" / "a_seg.nii.gz", voxels, affine)
    found = evaluate("predictions", "labels")
    assert found.code == 1
    assert re.search(message, found.err), found.err
    assert found.err.count("\n") == 1
    assert not (tmp_path / "result").exists()


def test_an_affine_that_is_rounded_fits(tmp_path, evaluate):
    write_pairs(tmp_path)
    moved = AFFINE.copy()
    moved[:3, 3] = 0.004
    save(tmp_path / "predictions" / "a_seg.nii.gz", box(1), moved)
    assert evaluate("predictions", "labels").rows["a", "1"] == approx(SHIFTED)


def test_a_label_of_no_class_is_refused(tmp_path, evaluate):
    write_nnunet(tmp_path, {"background": 0, "front": 1})
    found = evaluate("predictions", "data")
    assert re.search(r"la_1.nii.gz holds the label value 2, but the classes of .*dataset.json are backgr", found.err)


@pytest.mark.parametrize(
    ("folders", "options", "message"),
    [
        (["labels"], {}, "evaluate needs a folder of predictions and one of labels, got"),
        (["labels", "labels"], {"bundle": "x"}, "with --bundle evaluate needs one folder, that of a data set, got"),
        (["absent", "labels"], {}, "there is no data set folder"),
        (["predictions", "absent"], {}, "give the folder that holds the labels, or that of their data set"),
        (["predictions", "labels"], {"folds": "model.pt"}, "--folds are weights of a bundle"),
        (["predictions", "labels"], {"fold": 1}, "--fold 1 is one of a file; give --folds_file, too"),
        (["predictions", "labels"], {"cases": "a", "folds_file": "x"}, "both say which to evaluate; leave one out"),
        (["predictions", "labels"], {"folds_file": "x", "fold": "one"}, "--fold must be a number from 0, got one"),
        (["predictions", "labels"], {"folds_file": "absent.json"}, "there is no file absent.json"),
        (["predictions", "labels"], {"profile": "absent.json"}, "there is no file absent.json"),
        (["predictions", "labels"], {"tolerance": "0"}, "--tolerance must be a positive number of mm, got 0"),
        (["predictions", "labels"], {"tolerance": "wide"}, "--tolerance must be a positive number of mm, got wide"),
        (["predictions", "labels"], {"out": __file__}, "is a file; give a folder"),
        (["empty", "labels"], {}, "there is no NIfTI, NRRD or MetaImage file in"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, evaluate, folders, options, message):
    write_pairs(tmp_path)
    (tmp_path / "empty").mkdir()
    found = evaluate(*folders, **options)
    assert found.code == 1
    assert message in found.err


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({}, "mine.json has no label_names; add the names"),
        ({"label_names": ["background", "box"], "label_values": [0, [0]]}, "mine.json: label_values gives the value 0"),
        ({"label_names": ["background"]}, "mine.json: label_names must be a list of two or more"),
        (
            {"label_names": ["background", "box"], "surface_tolerance": -1},
            "surface_tolerance must be null or a positive",
        ),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused(tmp_path, evaluate, profile, message):
    write_pairs(tmp_path)
    (tmp_path / "mine.json").write_text(json.dumps(profile))
    found = evaluate("predictions", "labels", profile=tmp_path / "mine.json")
    assert message in found.err


def test_a_page_shows_both_masks(tmp_path, evaluate):
    write_nnunet(tmp_path, {"background": 0, "front": 1, "back": 2})
    found = evaluate("predictions", "data")
    files = found.summary["files"]["la_1"]
    assert files == {
        "image": str(tmp_path / "data" / "imagesTr" / "la_1_0000.nii.gz"),
        "label": str(tmp_path / "data" / "labelsTr" / "la_1.nii.gz"),
        "prediction": str(tmp_path / "predictions" / "la_1.nii.gz"),
    }
    text = write_report(tmp_path / "result").read_text()
    assert text.count("Solid lines: reference. Dashed lines: prediction.") == 2
    assert os.fspath(tmp_path) not in text.partition("<main")[2].partition("<script")[0]


def test_labels_of_background_alone_are_refused(tmp_path, evaluate):
    save(tmp_path / "labels" / "a.nii.gz", box(value=0))
    save(tmp_path / "predictions" / "a.nii.gz", box())
    assert "are background only; there is nothing to compare" in evaluate("predictions", "labels").err
