"""Bad lists, labels and pairs of the segmentation recipe."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from tests.synthetic import IMAGES, SEGMENTATION, change, each, run, tiny_training, write_nifti

pytestmark = each(SEGMENTATION[:1])

SECOND = "case_01.nii.gz"
GLOBS = {"image_glob": "imagesTr/*.nii.gz", "label_glob": "labelsTr/*.nii.gz"}


def no_dataset(data):
    shutil.rmtree(data)


def empty_folder(data):
    no_dataset(data)
    data.mkdir()


def no_list(data):
    shutil.rmtree(data / "imagesTr")
    (data / "dataset.json").write_text('{"name": "mine"}')


def entry_without_label(data):
    index = json.loads((data / "dataset.json").read_text())
    del index["training"][1]["label"]
    (data / "dataset.json").write_text(json.dumps(index))


def image_without_label(data):
    (data / "labelsTr" / SECOND).unlink()


def one_case(data):
    index = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({"training": index["training"][:1]}))


def foreign_value(data):
    change(data / "labelsTr" / SECOND, lambda a: np.where(a == 2, 7, a).astype(np.uint8))


def fractional_value(data):
    change(data / "labelsTr" / SECOND, lambda a: a * np.float32(0.5))


def all_background(data):
    for path in (data / "labelsTr").iterdir():
        change(path, lambda a: a * 0)


def other_shape(data):
    change(data / "labelsTr" / SECOND, lambda a: a[:-1])


def other_geometry(data):
    path = data / "labelsTr" / SECOND
    write_nifti(np.asarray(nib.load(path).dataobj), path, np.diag([1, 1, 2.0, 1]))


TRAINING = {
    "folder missing": (no_dataset, {}, r"there is no data set folder \S+; set dataset_dir"),
    "folder empty": (empty_folder, {}, r"there is no \S+dataset.json; set dataset_dir to a Decathlon folder"),
    "no list": (no_list, {}, rf"has labelsTr but no {IMAGES}; put the images there"),
    "one case": (one_case, {}, "1 cases under .* leave nothing to train on with fold 0; add cases"),
    "entry without label": (
        entry_without_label,
        {},
        r"\S+dataset.json has no image or no label in entry 1 of 'training'",
    ),
    "label file missing": (
        image_without_label,
        {},
        rf"^\S+labelsTr/{SECOND} is listed in dataset.json but absent; restore it or correct the list",
    ),
    "different counts": (
        image_without_label,
        GLOBS,
        rf"^\S+{IMAGES}/{SECOND} has no label of the same name; add the label",
    ),
    "no match": (
        lambda _: None,
        {**GLOBS, "label_glob": "no/*"},
        "no NIfTI, NRRD or MetaImage file matches .*; set dataset_dir or label_glob",
    ),
    "label value": (foreign_value, {}, rf"{SECOND} holds the label value 7 but there are 3 classes"),
    "label fraction": (fractional_value, {}, rf"{SECOND} holds the label value 0.5, which is no integer"),
    "all background": (all_background, {}, "all 5 training labels are background only, such as .*nothing to learn"),
    "shape": (
        other_shape,
        {},
        rf"labelsTr/{SECOND} has shape \(23, 28, 22\) but its image \S+{IMAGES}/{SECOND} \(24, 28, 22\); resample",
    ),
    "geometry": (
        other_geometry,
        {},
        rf"labelsTr/{SECOND} has another affine than its image \S+{IMAGES}/{SECOND}, by up to 21 mm",
    ),
}


@pytest.mark.parametrize("case", TRAINING.values(), ids=TRAINING)
def test_training_refuses(training_refused, case):
    training_refused(*case)


@pytest.mark.filterwarnings("ignore:Num foregrounds 0")
def test_one_empty_label_is_a_warning(bundle, dataset, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    change(data / "labelsTr" / SECOND, lambda a: a * 0)
    run(bundle, "train", tiny_training(bundle, data, tmp_path / "out", epochs=1))
    assert f"{SECOND} is all background" in caplog.text
    assert (tmp_path / "out" / "model.pt").is_file()
