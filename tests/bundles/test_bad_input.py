"""Bad input of any recipe ends with one sentence and leaves nothing half-written."""

from __future__ import annotations

import numpy as np
import pytest

from tests.synthetic import (
    EPOCHS,
    IMAGES,
    ONE_PER_RECIPE,
    change,
    config,
    each,
    kind,
    tiny_knobs,
    tiny_training,
    write_nifti,
)

pytestmark = each(ONE_PER_RECIPE)

SECOND = "case_01.nii.gz"


def two_channels(data):
    change(data / IMAGES / SECOND, lambda a: np.stack([a, a], -1))


def two_dimensional(data):
    for path in data.glob(f"*/{SECOND}"):
        change(path, lambda a: a[..., 9])


def four_dimensional(data):
    change(data / IMAGES / SECOND, lambda a: np.stack([a] * 5, -1))


def truncated(data):
    path = data / IMAGES / SECOND
    path.write_bytes(path.read_bytes()[:3000])


def not_an_image(data):
    (data / IMAGES / SECOND).write_text("hello")


def with_value(value):
    def poison(data):
        def put(array):
            array = array.copy()
            array[3, 4, 5] = value
            return array

        change(data / IMAGES / SECOND, put)

    return poison


TRAINING = {
    "fold": (lambda _: None, {"fold": 5}, "fold must lie between 0 and 4, got 5"),
    "channels": (two_channels, {}, rf"{SECOND} has 2 channels of shape .* where 1 are expected"),
    "channels of the knob": (lambda _: None, {"in_channels": 2}, "has 1 channels of shape .* where 2 are expected"),
    "2D": (two_dimensional, {}, rf"{SECOND} has 2 axes, shape"),
    "4D": (four_dimensional, {}, rf"{SECOND} has 5 channels of shape .* where 1 are expected"),
    "truncated": (truncated, {}, rf"{IMAGES}/{SECOND} is truncated"),
    "no image": (not_an_image, {}, rf"{IMAGES}/{SECOND} is no gzip file"),
    "NaN": (with_value(np.nan), {}, rf"{IMAGES}/{SECOND} holds 1 NaN or infinite voxels"),
    "Inf": (with_value(np.inf), {}, rf"{IMAGES}/{SECOND} holds 1 NaN or infinite voxels"),
}


def files_under(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("case", TRAINING.values(), ids=TRAINING)
def test_training_refuses(training_refused, case):
    training_refused(*case)


def test_evaluation_refuses_the_checkpoint_of_another_network(bundle, dataset, trained, tmp_path, refused):
    other = {"network_def#features": config(bundle)["network_def"]["features"], "ckpt_dir": str(trained)}
    sentence = refused(bundle, ["train", "evaluate"], tiny_training(bundle, dataset, tmp_path / "out", **other))
    assert "model.pt does not fit " in sentence
    assert not (tmp_path / "out").exists()


def test_training_refuses_to_resume_from_bare_weights(bundle, dataset, trained, tmp_path, refused):
    resume = {"resume_ckpt": str(trained / "model.pt")}
    sentence = refused(bundle, "train", tiny_training(bundle, dataset, tmp_path / "out", **resume))
    assert "cannot be resumed from, it lacks best_checkpoint, lr_scheduler, model, optimizer, trainer" in sentence
    assert not {"model.pt", "last_checkpoint.pt"} & set(files_under(tmp_path))


def test_training_refuses_to_resume_what_is_finished(bundle, dataset, trained, tmp_path, refused):
    resume = {"resume_ckpt": str(trained / "last_checkpoint.pt"), "epochs": EPOCHS}
    sentence = refused(bundle, "train", tiny_training(bundle, dataset, tmp_path / "out", **resume))
    assert f"has finished epoch {EPOCHS} of {EPOCHS} and its schedule" in sentence
    assert not {"model.pt", "last_checkpoint.pt"} & set(files_under(tmp_path))


def test_training_stops_when_the_loss_becomes_nan(bundle, dataset, tmp_path, refused):
    sentence = refused(bundle, "train", tiny_training(bundle, dataset, tmp_path / "out", learning_rate=1e30))
    assert sentence.startswith(("the loss became nan in epoch 1", "the loss became inf in epoch 1"))
    assert "a lower learning_rate" in sentence
    assert not {"model.pt", "last_checkpoint.pt"} & set(files_under(tmp_path))


def nothing(folder, _):
    return folder / "absent"


def hollow(folder, _):
    (folder / "hollow").mkdir()
    return folder / "hollow"


def wrong_format(folder, _):
    (folder / "scan.png").write_bytes(b"")
    return folder / "scan.png"


def twins(folder, image):
    for suffix in ("nii", "nii.gz"):
        write_nifti(image, folder / "twins" / f"a.{suffix}")
    return folder / "twins"


def with_array(function):
    def write(folder, image):
        write_nifti(image, folder / "many" / "a.nii.gz")
        write_nifti(function(image), folder / "many" / "b.nii.gz")
        return folder / "many"

    return write


def cut(folder, image):
    path = write_nifti(image, folder / "cut.nii.gz")
    path.write_bytes(path.read_bytes()[:3000])
    return path


INFERENCE = {
    "missing": (nothing, {}, "there is no file or folder .*absent; set dataset_dir"),
    "empty": (hollow, {}, "no NIfTI, NRRD or MetaImage file and no DICOM series in .*hollow"),
    "format": (wrong_format, {}, "scan.png is not one of .nii.gz, .nii, .nrrd"),
    "same name": (twins, {}, "1 results of .*twins would overwrite each other, such as a_seg.nii.gz"),
    "2D": (with_array(lambda a: a[..., 3]), {}, "b.nii.gz has 2 axes"),
    "4D": (with_array(lambda a: np.stack([a] * 4, -1)), {}, "b.nii.gz has 4 channels"),
    "NaN": (with_array(lambda a: a * np.nan), {}, r"b.nii.gz holds \d{4,} NaN or infinite voxels"),
    "truncated": (cut, {}, "cut.nii.gz is truncated"),
    "no checkpoint": (with_array(lambda a: a), {"ckpt_dir": "absent"}, "there is no checkpoint absent/model.pt: train"),
    "classes": (with_array(lambda a: a), {"label_names": ["a", "b", "c", "d"]}, "model.pt does not fit"),
    "mirror_axes": (
        with_array(lambda a: a),
        {"mirror_axes": [3]},
        r"mirror_axes must be a list .* 0 to 2, got \[3\]",
    ),
}


@pytest.mark.parametrize(("write", "overrides", "message"), INFERENCE.values(), ids=INFERENCE)
def test_inference_refuses(bundle, tmp_path, inference_refused, write, overrides, message):
    inference_refused(write(tmp_path, kind(bundle).image(1)), overrides, message)


def test_inference_refuses_a_truncated_checkpoint(bundle, trained, tmp_path, refused):
    (tmp_path / "model.pt").write_bytes((trained / "model.pt").read_bytes()[:5000])
    image = write_nifti(kind(bundle).image(1), tmp_path / "a.nii.gz")
    knobs = {"dataset_dir": str(image), "output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path)}
    assert "is not a readable checkpoint" in refused(bundle, "inference", {**tiny_knobs(bundle), **knobs})
    assert not (tmp_path / "out").exists()
