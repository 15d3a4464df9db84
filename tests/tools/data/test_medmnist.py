"""A MedMNIST file becomes a folder that the classifier's data list reads, whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow import classification_data_list
from tests.conftest import SHARED
from tools.__main__ import main
from tools.data import medmnist

SIZES = {"train": 12, "val": 3, "test": 4}
TRAINVAL = SHARED / "data" / "AdrenalMNIST3D" / "adrenalmnist3d_trainval.npz"


def arrays(classes: int = 2, shape: tuple[int, ...] = (5, 5, 5), **changes: np.ndarray) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    content = {}
    for split, cases in SIZES.items():
        content[f"{split}_images"] = generator.integers(0, 256, (cases, *shape), dtype=np.uint8)
        content[f"{split}_labels"] = (np.arange(cases, dtype=np.uint8) % classes)[:, None]
    return content | changes


def save(file: Path, content: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(file, **content)
    return file


def table(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "labels.csv").open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray], Path]:
    content = arrays()
    root = tmp_path_factory.mktemp("medmnist")
    file = save(root / "adrenalmnist3d_small.npz", content)
    return file, content, medmnist.convert(str(file), str(root / "out" / "adrenal"))


def test_every_patch_and_class_arrives(converted):
    _, content, folder = converted
    names = ["normal", "hyperplasia"]
    want = [("image", "label", "split")]
    for split, word in (("train", "training"), ("val", "validation"), ("test", "test")):
        for i, (image, label) in enumerate(zip(content[f"{split}_images"], content[f"{split}_labels"], strict=True)):
            want.append((f"images/{split}_{i:04d}.nii.gz", names[int(label[0])], word))
            patch = nib.load(folder / want[-1][0])
            np.testing.assert_array_equal(np.asarray(patch.dataobj), image)
            assert patch.get_data_dtype() == np.uint8
            np.testing.assert_array_equal(patch.affine, np.eye(4))
    assert table(folder) == want
    assert len(list((folder / "images").iterdir())) == sum(SIZES.values())


def test_the_source_is_named(converted):
    file, _, folder = converted
    source = json.loads((folder / "source.json").read_text())
    assert source["md5"] == hashlib.md5(file.read_bytes()).hexdigest()
    assert source["licence"] == "CC BY 4.0"
    assert "neither voxel size nor orientation" in source["geometry"]


def test_the_data_list_reads_it(converted):
    folder = converted[2]
    cases = {
        section: classification_data_list(folder, section, label_names=["normal", "hyperplasia"])
        for section in ("training", "held_out", "validation", "test")
    }
    assert {section: len(own) for section, own in cases.items()} == {
        "training": 8,
        "held_out": 4,
        "validation": 3,
        "test": 4,
    }
    assert [case["label"] for case in cases["test"]] == [0, 1, 0, 1]


def test_twice_does_nothing_the_second_time(converted, capsys):
    file, _, folder = converted
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*")}
    medmnist.convert(str(file), str(folder))
    assert "already" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*")} == before
    assert [f.name for f in folder.parent.iterdir()] == ["adrenal"], "no temporary folder is left"


def test_a_split_may_be_missing(tmp_path):
    content = {key: value for key, value in arrays().items() if not key.startswith("test")}
    folder = medmnist.convert(str(save(tmp_path / "adrenalmnist3d_trainval.npz", content)), str(tmp_path / "out"))
    assert [row[2] for row in table(folder)[1:]] == ["training"] * 12 + ["validation"] * 3


@pytest.mark.parametrize(
    ("options", "names"),
    [([], ["0", "1", "2"]), (["--label_names", "buckle rib,nondisplaced,displaced"], ["buckle rib", "nondisplaced"])],
)
def test_names_of_another_set(tmp_path, options, names):
    file = save(tmp_path / "fracturemnist3d_64.npz", arrays(classes=3))
    assert main(["data", "convert", str(file), "--output_dir", str(tmp_path / "out"), *options]) == 0
    assert [row[1] for row in table(tmp_path / "out")[1:]][: len(names)] == names


def other_file(folder: Path, original: Path) -> Path:
    """The same set under the same name, one voxel different: not what lies in the folder."""
    content = arrays()
    content["test_images"][0, 0, 0, 0] ^= 1
    return save(folder / original.name, content)


@pytest.mark.parametrize("damage", ["another file", "a patch is missing", "something else", "a file"])
def test_a_folder_that_is_something_else_is_left_alone(tmp_path, damage, capsys):
    file, target = save(tmp_path / "adrenalmnist3d.npz", arrays()), tmp_path / "out"
    if damage in ("another file", "a patch is missing"):
        medmnist.convert(str(file), str(target))
        if damage == "another file":
            file = other_file(tmp_path, file)
        else:
            (target / "images" / "val_0001.nii.gz").unlink()
    elif damage == "something else":
        target.mkdir()
        (target / "mine.txt").write_text("precious")
    else:
        target.write_text("precious")
    before = {f: f.stat().st_mtime_ns for f in [target, *target.rglob("*")]}
    assert main(["data", "convert", str(file), "--output_dir", str(target)]) == 1
    assert "is not empty and is not the converted adrenalmnist3d.npz; remove it or" in capsys.readouterr().err
    assert {f: f.stat().st_mtime_ns for f in [target, *target.rglob("*")]} == before


COLOUR = {"train_images": np.zeros((12, 28, 28, 3), np.uint8)}
BAD = {
    "2d": (
        arrays(shape=(28, 28)),
        r"train_images of .* has the shape \(12, 28, 28\) .*uint8 cubes; give a file of one",
    ),
    "2d-colour": (arrays(**COLOUR), r"has the shape \(12, 28, 28, 3\) .* not that of uint8 cubes"),
    "float": (arrays(val_images=np.zeros((3, 5, 5, 5))), "val_images of .* the type float64, not that of uint8 cubes"),
    "count": (arrays(test_labels=np.zeros((5, 1), np.uint8)), "holds 4 test_images but 5 test_labels"),
    "many-labels": (arrays(val_labels=np.zeros((3, 14), np.uint8)), r"val_labels of .* has the shape \(3, 14\)"),
    "fractions": (arrays(val_labels=np.zeros((3, 1))), "val_labels of .* the type float64; give a file with one class"),
    "classes": (arrays(classes=3), "has 3 classes, but label_names is normal, hyperplasia; give one name"),
    "no-labels": ({"train_images": arrays()["train_images"]}, "holds no train_labels; give a 3D npz file of MedMNIST"),
    "other-npz": ({"weights": np.zeros(3)}, "holds no train_images, val_images or test_images"),
    "pickle": (arrays(val_images=np.array([None] * 3)), "val_images of .* is damaged"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_a_wrong_file_is_one_sentence_and_leaves_nothing(tmp_path, content, message):
    file = save(tmp_path / "adrenalmnist3d.npz", content)
    with pytest.raises(ValueError, match=message):
        medmnist.convert(str(file), str(tmp_path / "out"))
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("label_names", "message"),
    [("a", "has 2 classes, but label_names is a; give"), ("a,a", "is a, a; give one"), ("a,", "is a, ; give one")],
)
def test_wrong_names(tmp_path, label_names, message):
    file = save(tmp_path / "nodulemnist3d.npz", arrays())
    with pytest.raises(ValueError, match=message):
        medmnist.convert(str(file), str(tmp_path / "out"), label_names=label_names)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "npy", "flipped"])
def test_a_damaged_file_is_one_sentence_and_leaves_nothing(tmp_path, damage, capsys):
    file = save(tmp_path / "adrenalmnist3d.npz", arrays())
    whole = file.read_bytes()
    middle = whole.index(b"test_images.npy") + 200
    flipped = whole[:middle] + bytes(255 - b for b in whole[middle : middle + 50]) + whole[middle + 50 :]
    contents = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>not found</html>", "flipped": flipped}
    if damage == "npy":
        with file.open("wb") as stream:
            np.save(stream, np.zeros((3, 5, 5, 5), np.uint8))
    else:
        file.write_bytes(contents[damage])
    assert main(["data", "convert", str(file), "--output_dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (f"test_images of {file} is damaged" if damage == "flipped" else "is no npz file or is cut off") in error
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.npz; give an npz file"):
        medmnist.convert(str(tmp_path / "none.npz"), str(tmp_path / "out"))


@pytest.mark.skipif(not TRAINVAL.is_file(), reason="AdrenalMNIST3D is not at <repository>/../shared/data")
def test_the_official_training_and_validation_splits(tmp_path):
    folder = medmnist.convert(str(TRAINVAL), str(tmp_path / "adrenal"))
    rows = [row[1:] for row in table(folder)[1:]]
    assert {row: rows.count(row) for row in set(rows)} == {
        ("normal", "training"): 929,
        ("hyperplasia", "training"): 259,
        ("normal", "validation"): 76,
        ("hyperplasia", "validation"): 22,
    }
