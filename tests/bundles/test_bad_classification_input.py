"""Bad lists, classes, patches and attention of a classification bundle."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from tests.synthetic import CLASSIFICATION, IMAGES, change, each, patch, tiny_training, write_nifti

pytestmark = each(CLASSIFICATION)

SECOND = "case_01.nii.gz"
ATTENTION = "network_def#attention_module"


def as_it_is(_):
    pass


def no_dataset(data):
    shutil.rmtree(data)


def no_csv(data):
    (data / "labels.csv").unlink()


def csv(function):
    """Return what rewrites the lines of labels.csv."""

    def rewrite(data):
        path = data / "labels.csv"
        path.write_text("\n".join(function(path.read_text().splitlines())) + "\n")

    return rewrite


def no_image(data):
    (data / IMAGES / SECOND).unlink()


def small_patch(data):
    change(data / IMAGES / SECOND, lambda a: a[:15])


def coarse_patch(data):
    path = data / IMAGES / SECOND
    write_nifti(np.arange(3200, dtype=np.float32).reshape(8, 20, 20), path, np.diag([1.9, 1, 1, 1]))


TRAINING = {
    "folder missing": (no_dataset, {}, r"there is no \S+labels.csv; write a CSV file .* or set dataset_dir"),
    "no CSV": (no_csv, {}, r"there is no \S+labels.csv; write a CSV file with the columns image and label"),
    "other CSV": (as_it_is, {"csv_file": "mine.csv"}, r"there is no \S+mine.csv; .* set dataset_dir and csv_file"),
    "columns": (
        csv(lambda rows: ["file,class", *rows[1:]]),
        {},
        "has the columns file, class; it needs image and label",
    ),
    "empty": (csv(lambda rows: rows[:1]), {}, "labels.csv has no row; add one image and label per line"),
    "twice": (
        csv(lambda rows: [*rows, rows[1]]),
        {},
        r"names \S+case_00.nii.gz in line 2 and the same file again in line 30",
    ),
    "class": (
        csv(lambda rows: [*rows[:-1], rows[-1].replace("large", "huge")]),
        {},
        "line 29 .* the class 'huge', which is non",
    ),
    "image missing": (no_image, {}, rf"1 of 28 images of \S+ do not exist, such as \S+{SECOND}"),
    "class without cases": (as_it_is, {"label_names": ["small", "large", "huge"]}, "no training case of the class 'hu"),
    "one class": (
        as_it_is,
        {"label_names": ["small"]},
        r"label_names must be a list of two or more .*, got \['sm",
    ),
    "attention": (as_it_is, {ATTENTION: "cbma"}, "there is no attention module 'cbma'; use for example 'cbam', 'eca'"),
    "attention argument": (
        as_it_is,
        {ATTENTION: "shuffle_attention", "network_def#attention_module_arguments": {"groups": 3}},
        r"groups must divide in_channels / 2 = 4, got 3; use one of 1, 2, 4",
    ),
    "small patch": (small_patch, {}, rf"{SECOND} has \(15, 20, 18\) voxels of \(1.0, 1.0, 1.0\) mm, smaller than the "),
    "coarse patch": (coarse_patch, {}, rf"{SECOND} has \(14, 20, 20\) voxels of .* \(16, 16, 16\); cut larger patches"),
    "patch_size": (as_it_is, {"patch_size": [16, 16, 14]}, r"patch_size \(16, 16, 14\) is smaller than the network"),
    "2D patch_size": (as_it_is, {"patch_size": [16, 16]}, r"patch_size must be three positive integers, got"),
}


@pytest.mark.parametrize("case", TRAINING.values(), ids=TRAINING)
def test_training_refuses(training_refused, case):
    training_refused(*case)


EVALUATION = {
    "split": ({"evaluation_split": "test"}, r"needs rows of the split 'test', but \S+ has training, validation only"),
    "patch_size": ({"patch_size": [16, 12, 16]}, r"patch_size \(16, 12, 16\) is smaller than the network can take"),
}


@pytest.mark.parametrize(("overrides", "message"), EVALUATION.values(), ids=EVALUATION)
def test_evaluation_refuses(bundle, dataset, trained, tmp_path, refused, overrides, message):
    knobs = tiny_training(bundle, dataset, tmp_path / "out", ckpt_dir=str(trained))
    assert re.search(message, refused(bundle, ["train", "evaluate"], {**knobs, **overrides}))
    assert not (tmp_path / "out").exists()


INFERENCE = {
    "small": (lambda a: a[:, :15], {}, r"b.nii.gz has \(19, 15, 18\) voxels of .* smaller than the network can take"),
    "spacing": (lambda a: a, {"spacing": [1.5, 1.0, 1.0]}, r"a.nii.gz has \(13, 20, 18\) voxels of \(1.5, 1.0, 1.0\)"),
    "patch_size": (lambda a: a, {"patch_size": [8, 16, 16]}, r"patch_size \(8, 16, 16\) is smaller than the network"),
    "attention": (lambda a: a, {ATTENTION: "non_local"}, "model.pt does not fit AttentionClassifier"),
}


@pytest.mark.parametrize(("function", "overrides", "message"), INFERENCE.values(), ids=INFERENCE)
def test_inference_refuses(tmp_path, inference_refused, function, overrides, message):
    write_nifti(patch(0), tmp_path / "two" / "a.nii.gz")
    write_nifti(function(patch(1)), tmp_path / "two" / "b.nii.gz")
    inference_refused(tmp_path / "two", overrides, message)
