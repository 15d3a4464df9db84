"""What is found in a folder, channels, classes, sizes, intensities, and the sentence where files contradict it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks.adapt.commands import check
from custom_networks.adapt.facts import read_facts
from custom_networks.adapt.labels import named_labels
from tests.synthetic import change, write_dataset, write_nifti, write_nrrd, write_oriented

IMAGE, LABEL = "imagesTr/case_02.nii.gz", "labelsTr/case_02.nii.gz"


@pytest.fixture
def data(tmp_path) -> Path:
    return write_dataset(tmp_path / "mine", cases=5)


def describe(root: Path, **entries) -> Path:
    """Add entries to dataset.json."""
    file = root / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    return root


def test_a_decathlon_folder(data):
    names = {"0": "background", "1": "small", "2": "large"}
    facts = read_facts(describe(data, name="Balls", modality={"0": "MRI T1"}, labels=names))
    assert (facts.name, facts.channels, facts.intensity, facts.source) == (
        "Balls",
        ["MRI T1"],
        ["z_score"],
        "dataset.json",
    )
    assert facts.classes == {"background": [0], "small": [1], "large": [2]}
    assert facts.image_glob is None
    assert len(facts.images) == 5
    assert sum(facts.voxels.values()) == 5 * 24 * 28 * 22
    assert facts.cases == [{0, 1, 2}] * 5


def test_a_folder_without_dataset_json(data):
    (data / "dataset.json").unlink()
    facts = read_facts(data)
    assert facts.layout == "imagesTr/* and labelsTr/*"
    assert facts.names == [f"case_{number:02d}" for number in range(5)]
    assert facts.image_glob is facts.label_glob is None
    assert facts.name == "mine"
    assert facts.classes == {"background": [0], "label_1": [1], "label_2": [2]}
    assert "guessed from the least intensity" in facts.source


def test_patterns_instead_of_what_dataset_json_lists(data):
    for name in ("case_00.nii.gz", "case_01.nii.gz"):
        (data / "mr").mkdir(exist_ok=True)
        (data / "imagesTr" / name).rename(data / "mr" / name)
    facts = read_facts(data, "mr/*.nii.gz", "labelsTr/case_0[01].nii.gz")
    assert [image.path.name for image in facts.images] == ["case_00.nii.gz", "case_01.nii.gz"]


def test_values_that_are_not_counted_from_zero(data):
    for path in (data / "labelsTr").iterdir():
        change(path, lambda label: np.array([0, 600, -3], np.int16)[label])
    with pytest.raises(ValueError, match=r"holds the label value -3, below 0; correct the label, or name it"):
        read_facts(data)
    names = {"-3": "lesion", "600": "lesion", "0": "background", "7": "absent"}
    facts = read_facts(describe(data, labels=names))
    assert facts.classes == {"background": [0], "lesion": [-3, 600], "absent": [7]}


def test_regions_as_nnunet_writes_them(data):
    facts = read_facts(describe(data, labels={"b": 0, "inner": 2, "outer": [1, 2], "ignore": 3}))
    assert facts.regions
    assert list(facts.classes.items()) == [("b", [0]), ("outer", [1, 2]), ("inner", [2])]
    assert not read_facts(describe(data, labels={"b": 0, "inner": 2, "outer": 1})).regions


def test_a_background_that_is_not_zero(data):
    for path in (data / "labelsTr").iterdir():
        change(path, lambda label: np.array([9, 0, 1], np.uint8)[label])
    facts = read_facts(describe(data, labels={"0": "small", "1": "large", "9": "Background"}))
    assert facts.classes == {"Background": [9], "small": [0], "large": [1]}


def test_sizes_are_those_along_ras_in_nifti_and_nrrd(data):
    write_nifti(np.zeros((6, 8, 10), np.float32) + np.arange(10), data / IMAGE, np.diag([1.0, 2.0, 3.0, 1]))
    turned = data / "imagesTr" / "case_03.nii.gz"
    write_oriented(data / IMAGE, "SPL", turned)
    write_nrrd(data / IMAGE, data / "imagesTr" / "case_04.nrrd")
    (data / "imagesTr" / "case_04.nii.gz").unlink()
    ones = np.ones((6, 8, 10), np.uint8)
    for name in ("case_02", "case_04"):
        write_nifti(ones, data / "labelsTr" / f"{name}.nii.gz", np.diag([1.0, 2.0, 3.0, 1]))
    write_oriented(data / LABEL, "SPL", data / "labelsTr" / "case_03.nii.gz")
    images = read_facts(data, "imagesTr/case_0[2-4].*", "labelsTr/case_0[2-4].*").images
    assert [image.axes for image in images] == ["RAS", "SPL", "RAS"]
    assert [image.shape for image in images] == [(6, 8, 10)] * 3
    for image in images:
        assert image.spacing == pytest.approx((1, 2, 3))


def test_nrrd_whose_origin_is_not_read_beside_nifti(data):
    shifted = nib.affines.from_matvec(np.eye(3), [-7, 5, 11])
    for number in range(5):
        image, label = (data / folder / f"case_{number:02d}.nii.gz" for folder in ("imagesTr", "labelsTr"))
        for path in (image, label):
            write_nifti(np.asarray(nib.load(path).dataobj), path, shifted)
        (data / "nrrd").mkdir(exist_ok=True)
        write_nrrd(image, data / "nrrd" / image.name.replace(".nii.gz", ".nrrd"))
    assert len(read_facts(data, "nrrd/*", "labelsTr/*").images) == 5


@pytest.mark.parametrize("named", [True, False])
def test_ct_takes_statistics_inside_the_foreground(data, named):
    if named:
        describe(data, modality={"0": "contrast-enhanced CT"})
    inside = []
    for number in range(5):
        image, label = (data / folder / f"case_{number:02d}.nii.gz" for folder in ("imagesTr", "labelsTr"))
        change(image, lambda voxels: voxels * 100 - 1000)
        inside.append(np.asarray(nib.load(image).dataobj)[np.asarray(nib.load(label).dataobj) > 0])
    values = np.concatenate(inside)
    (scheme,) = read_facts(data).intensity
    assert scheme["clip"] == pytest.approx(np.percentile(values, [0.5, 99.5]), abs=1e-3)
    assert (scheme["mean"], scheme["std"]) == pytest.approx((values.mean(), values.std()), abs=0.01)


def test_one_channel_of_two_is_ct(tmp_path):
    data = describe(write_dataset(tmp_path / "two", cases=3, channels=2), channel_names={"0": "PET", "1": "CT"})
    pet, ct = read_facts(data).intensity
    assert pet == "z_score"
    assert set(ct) == {"clip", "mean", "std"}


def test_images_that_are_mostly_zero_leave_zeros_out(data):
    image = data / IMAGE
    assert read_facts(data).intensity == ["z_score"]
    assert read_facts(data).zeros == [0]
    for path in sorted((data / "imagesTr").iterdir()):
        change(path, lambda voxels: np.where(np.arange(22) < 7, 0, voxels))
    facts = read_facts(data)
    assert (facts.intensity, facts.zeros) == (["z_score_nonzero"], [pytest.approx(7 / 22)])
    change(image, lambda voxels: voxels * 0)  # one of three does not change the median
    assert read_facts(data).zeros == [pytest.approx(7 / 22)]
    for path in sorted((data / "imagesTr").iterdir())[:2]:
        change(path, lambda voxels: np.where(np.arange(22) < 5, voxels + 1, voxels))
    assert read_facts(data).intensity == ["z_score"]
    assert read_facts(describe(data, modality={"0": "CT"})).intensity != ["z_score"]


def test_classes_in_one_piece(data):
    assert read_facts(data).in_one_piece
    label = data / LABEL

    def stray(voxels: int):
        def change_it(values):
            values[0, 0, :voxels] = 1
            return values

        return change_it

    size = int((np.asarray(nib.load(label).dataobj) == 1).sum())
    change(label, stray(max(1, size // 40)))
    assert read_facts(data).in_one_piece
    change(label, stray(min(22, size // 10)))
    assert not read_facts(data).in_one_piece


def test_two_halves_of_one_region_are_one_piece(data):
    for path in (data / "labelsTr").iterdir():
        change(path, lambda label: np.where(label == 2, 1 + np.arange(22) % 2, 0).astype(np.uint8))
    assert not read_facts(data).in_one_piece
    assert read_facts(describe(data, labels={"b": 0, "1": 1, "2": 2})).in_one_piece is False
    assert read_facts(describe(data, labels={"b": 0, "whole": [1, 2]})).in_one_piece


def test_the_words_that_mean_ct(data):
    for name, is_ct in (("CT", True), ("cta", True), ("MRI", False), ("T1ct", False), ("CTX", False)):
        (scheme,) = read_facts(describe(data, modality={"0": name})).intensity
        assert (scheme != "z_score") is is_ct, name


def test_labels_as_nnunet_writes_them():
    assert named_labels({"labels": {"background": 0, "b": 2, "a": 1, "ignore": 3}}) == {0: "background", 2: "b", 1: "a"}


def _change(file, function):
    return lambda root: change(root / file, function)


BAD = {
    "unnamed value": (
        lambda root: describe(root, labels={"0": "b", "1": "a"}),
        "hold the value 2, which the entry labels",
    ),
    "text": (lambda root: describe(root, labels={"b": 0, "whole": "1"}), "'whole' the value '1'; give it one"),
    "overlapping regions": (
        lambda root: describe(root, labels={"b": 0, "a": [1, 2], "c": [2, 3]}),
        "dataset.json: the regions a and c share the label value 2",
    ),
    "a region of the background": (
        lambda root: describe(root, labels={"b": 0, "a": [0, 1, 2]}),
        "dataset.json: the region a has the label value 0",
    ),
    "a value of no region": (lambda root: describe(root, labels={"b": 0, "a": [1]}), "hold the value 2, which the"),
    "modality": (
        lambda root: describe(root, modality={"0": "T1", "1": "T2"}),
        r"names 2 channels \(T1, T2\) but .* has 1",
    ),
    "no label": (
        lambda root: (root / LABEL).unlink(),
        f"{LABEL} is listed in dataset.json but absent; restore it",
    ),
    "in both lists": (
        lambda root: describe(root, validation=[{"image": IMAGE, "label": LABEL}]),
        f"{IMAGE} is to validate on, but {IMAGE} of the same name is to train on",
    ),
    "no image": (lambda root: (root / IMAGE).write_bytes(b"x"), "case_02.nii.gz is no gzip file"),
    "shape": (
        _change(LABEL, lambda label: label[1:]),
        r"labelsTr/case_02.* has shape \(23, 28, 22\) but its image .*case_02.* \(24, 28, 22\)",
    ),
    "channels": (_change(IMAGE, lambda image: np.stack([image] * 2, -1)), "case_02.* has 2 channels but .*case_00.* 1"),
    "label channels": (
        _change(LABEL, lambda label: np.stack([label] * 2, -1)),
        "2 channels where one of class indices",
    ),
    "fractions": (
        _change(LABEL, lambda label: label * np.float32(0.5)),
        "case_02.* holds the label value 0.5, which is no integer",
    ),
    "nan": (
        _change(LABEL, lambda label: label * np.float32(np.nan)),
        "case_02.* holds the label value nan, which is",
    ),
    "two names": (
        lambda root: (root / "dataset.json").write_text(
            json.dumps({**json.loads((root / "dataset.json").read_text()), "labels": {"b": 0, "x": 1, "y": 1}})
        ),
        "gives the value 1 to 'x' and to 'y'; give each its own",
    ),
    "json": (lambda root: (root / "dataset.json").write_text("{"), "dataset.json is not valid JSON"),
    "spacing": (
        lambda root: write_nifti(np.zeros((24, 28, 22), np.uint8), root / LABEL, np.diag([1, 1, 2, 1])),
        "labelsTr/case_02.* has another affine than its image .*case_02.*, by up to 21 mm",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_one_sentence_about_the_file(data, damage, message):
    damage(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_facts(data)
    assert "\n" not in str(caught.value)


def test_images_in_place_of_labels(data):
    (data / "dataset.json").unlink()
    for path in (data / "labelsTr").iterdir():
        change(path, lambda label: np.arange(label.size, dtype=np.int16).reshape(label.shape))
    with pytest.raises(ValueError, match="hold 14784 values; give labels of at most 256 classes"):
        read_facts(data)


def test_labels_without_foreground(data):
    for path in (data / "labelsTr").iterdir():
        change(path, np.zeros_like)
    with pytest.raises(ValueError, match="background only; there is nothing to learn"):
        read_facts(data)


@pytest.mark.parametrize("look", [read_facts, lambda root: check(str(root))], ids=["adapt", "check"])
def test_two_volumes_are_held_at_most(tmp_path, look):
    """Image and label of one case, and less than one more while a file is unpacked or its values are counted."""
    shape = (48, 48, 48)
    for number in range(5):
        label = np.zeros(shape, np.uint8)
        label[10:20, 10:20, 10:20] = 1
        voxels = np.random.default_rng(number).normal(-1000, 100, shape).astype(np.float32)
        write_nifti(voxels, tmp_path / "imagesTr" / f"{number}.nii.gz")
        write_nifti(label, tmp_path / "labelsTr" / f"{number}.nii.gz")
    look(tmp_path)  # what is imported on the way
    tracemalloc.start()
    try:
        look(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 3 * np.prod(shape) * 4
    finally:
        tracemalloc.stop()
