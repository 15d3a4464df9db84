"""Bad input ends with one sentence and leaves nothing half-written."""

from __future__ import annotations

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow.errors import sentence_of
from tests.synthetic import EPOCHS, config, run, tiny_knobs, tiny_training, volume, write_nifti

FIRST, SECOND = "case_00.nii.gz", "case_01.nii.gz"
GLOBS = {"image_glob": "imagesTr/*.nii.gz", "label_glob": "labelsTr/*.nii.gz"}


def change(path, function):
    """Rewrite an image through a function of its array; a result of another shape keeps the affine."""
    image = nib.load(path)
    array, affine = np.asarray(image.dataobj), image.affine
    write_nifti(function(array), path, affine)


def no_dataset(data):
    shutil.rmtree(data)


def no_index(data):
    (data / "dataset.json").unlink()


def empty_folder(data):
    no_dataset(data)
    data.mkdir()


def empty_list(data):
    (data / "dataset.json").write_text('{"training": []}')


def no_list(data):
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


def two_channels(data):
    change(data / "imagesTr" / SECOND, lambda a: np.stack([a, a], -1))


def two_dimensional(data):
    for folder in ("imagesTr", "labelsTr"):
        change(data / folder / SECOND, lambda a: a[..., 9])


def four_dimensional(data):
    change(data / "imagesTr" / SECOND, lambda a: np.stack([a] * 5, -1))


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


def truncated(data):
    path = data / "imagesTr" / SECOND
    path.write_bytes(path.read_bytes()[:3000])


def not_an_image(data):
    (data / "imagesTr" / SECOND).write_text("hello")


def with_value(value):
    def poison(data):
        def put(array):
            array = array.copy()
            array[3, 4, 5] = value
            return array

        change(data / "imagesTr" / SECOND, put)

    return poison


TRAINING = {
    "folder missing": (no_dataset, {}, r"there is no data set folder \S+; set dataset_dir"),
    "folder empty": (empty_folder, {}, r"there is no \S+dataset.json; set dataset_dir to a Decathlon folder"),
    "no dataset.json": (no_index, {}, r"there is no \S+dataset.json"),
    "empty list": (empty_list, {}, "'training' in .* is empty; add at least one case"),
    "no list": (no_list, {}, "has no usable 'training' list"),
    "one case": (one_case, {}, "1 cases under .* leave nothing to train on with fold 0; add cases"),
    "entry without label": (entry_without_label, {}, "entry 1 of 'training' in .* has no image or no label"),
    "label file missing": (image_without_label, {}, rf"there is no file \S+labelsTr/{SECOND}; correct dataset.json"),
    "different counts": (image_without_label, GLOBS, rf"7 images and 6 labels under .*imagesTr/{SECOND} has no label"),
    "no match": (lambda _: None, {**GLOBS, "label_glob": "no/*"}, "no file matches .*; set dataset_dir or label_glob"),
    "fold": (lambda _: None, {"fold": 5}, "fold must lie between 0 and 4, got 5"),
    "channels": (two_channels, {}, rf"{SECOND} has 2 channels of shape .* where 1 are expected"),
    "channels of the knob": (lambda _: None, {"in_channels": 2}, "has 1 channels of shape .* where 2 are expected"),
    "2D": (two_dimensional, {}, rf"{SECOND} has 2 spatial axes, shape .* where 3 are expected"),
    "4D": (four_dimensional, {}, rf"{SECOND} has 5 channels of shape .* where 1 are expected"),
    "label value": (foreign_value, {}, rf"{SECOND} holds the label value 7 but there are 3 classes"),
    "label fraction": (fractional_value, {}, rf"{SECOND} holds the label value 0.5 but there are 3 classes"),
    "all background": (all_background, {}, "all 5 training labels are background only, such as .*nothing to learn"),
    "shape": (other_shape, {}, rf"labelsTr/{SECOND} has shape \(23, 28, 22\) but .* \(24, 28, 22\); resample"),
    "geometry": (other_geometry, {}, rf"the geometry \(affine\) of .*labelsTr/{SECOND} differs from"),
    "truncated": (truncated, {}, rf"imagesTr/{SECOND} cannot be read as an image .*truncated or corrupt"),
    "no image": (not_an_image, {}, rf"imagesTr/{SECOND} cannot be read as an image"),
    "NaN": (with_value(np.nan), {}, rf"imagesTr/{SECOND} holds 1 NaN or infinite voxels"),
    "Inf": (with_value(np.inf), {}, rf"imagesTr/{SECOND} holds 1 NaN or infinite voxels"),
}


def files_under(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def refused():
    """Return a function that runs configs and returns the sentence with which they were refused."""

    def attempt(*arguments, **more):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps the error; its sentence is checked
            run(*arguments, **more)
        sentence = sentence_of(caught.value)
        assert sentence is not None
        assert "\n" not in sentence
        return sentence

    return attempt


@pytest.mark.parametrize(("damage", "overrides", "message"), TRAINING.values(), ids=TRAINING)
def test_training_refuses(bundle, dataset, tmp_path, refused, damage, overrides, message):
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    damage(data)
    sentence = refused(bundle, "train", tiny_training(bundle, data, tmp_path / "out", **overrides))
    assert re.search(message, sentence), sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Num foregrounds 0")
def test_one_empty_label_is_a_warning(bundle, dataset, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    change(data / "labelsTr" / SECOND, lambda a: a * 0)
    run(bundle, "train", tiny_training(bundle, data, tmp_path / "out", epochs=1))
    assert f"{SECOND} is all background" in caplog.text
    assert (tmp_path / "out" / "model.pt").is_file()


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
    assert "lower learning_rate" in sentence
    assert not {"model.pt", "last_checkpoint.pt"} & set(files_under(tmp_path))


def nothing(folder):
    return folder / "absent"


def hollow(folder):
    (folder / "hollow").mkdir()
    return folder / "hollow"


def wrong_format(folder):
    (folder / "scan.png").write_bytes(b"")
    return folder / "scan.png"


def twins(folder):
    for suffix in ("nii", "nii.gz"):
        write_nifti(volume(1)[0], folder / "twins" / f"a.{suffix}")
    return folder / "twins"


def with_array(function):
    def write(folder):
        write_nifti(volume(0)[0], folder / "many" / "a.nii.gz")
        write_nifti(function(volume(1)[0]), folder / "many" / "b.nii.gz")
        return folder / "many"

    return write


def cut(folder):
    path = write_nifti(volume(1)[0], folder / "cut.nii.gz")
    path.write_bytes(path.read_bytes()[:3000])
    return path


INFERENCE = {
    "missing": (nothing, {}, "there is no file or folder .*absent; set dataset_dir"),
    "empty": (hollow, {}, "no NIfTI, NRRD or DICOM image in .*hollow"),
    "format": (wrong_format, {}, "scan.png is not one of .nii.gz, .nii, .nrrd"),
    "same name": (twins, {}, "1 names in .* occur twice, such as 'a'"),
    "2D": (with_array(lambda a: a[..., 3]), {}, "b.nii.gz has 2 spatial axes"),
    "4D": (with_array(lambda a: np.stack([a] * 4, -1)), {}, "b.nii.gz has 4 channels"),
    "NaN": (with_array(lambda a: a * np.nan), {}, "b.nii.gz holds 14784 NaN or infinite voxels"),
    "truncated": (cut, {}, "cut.nii.gz cannot be read as an image"),
    "no checkpoint": (with_array(lambda a: a), {"ckpt_dir": "absent"}, "there is no checkpoint absent/model.pt: train"),
    "classes": (with_array(lambda a: a), {"label_names": ["background", "One"]}, "model.pt does not fit"),
    "mirror_axes": (with_array(lambda a: a), {"mirror_axes": [3]}, r"mirror_axes must hold .* 0 to 2, got \[3\]"),
}


@pytest.mark.parametrize(("write", "overrides", "message"), INFERENCE.values(), ids=INFERENCE)
def test_inference_refuses(bundle, trained, tmp_path, refused, write, overrides, message):
    knobs = {"dataset_dir": str(write(tmp_path)), "output_dir": str(tmp_path / "out"), "ckpt_dir": str(trained)}
    sentence = refused(bundle, "inference", {**tiny_knobs(bundle), **knobs, **overrides})
    assert re.search(message, sentence), sentence
    assert not (tmp_path / "out").exists()


def test_inference_refuses_a_truncated_checkpoint(bundle, trained, tmp_path, refused):
    (tmp_path / "model.pt").write_bytes((trained / "model.pt").read_bytes()[:5000])
    image = write_nifti(volume(1)[0], tmp_path / "a.nii.gz")
    knobs = {"dataset_dir": str(image), "output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path)}
    assert "is not a readable checkpoint" in refused(bundle, "inference", {**tiny_knobs(bundle), **knobs})
    assert not (tmp_path / "out").exists()
