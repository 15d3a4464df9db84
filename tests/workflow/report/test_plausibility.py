"""The warnings come where they are due: on made images of every kind, and on real ones of other bodies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from custom_networks.workflow.data.volumes import read_grid, read_voxels
from custom_networks.workflow.report.image_facts import image_facts, spread
from custom_networks.workflow.report.plausibility import find_warnings
from custom_networks.workflow.report.training_data import read_training_data
from custom_networks.workflow.report.volumes import Structure, measure
from tests.conftest import SHARED
from tests.synthetic import ROOT

SHAPE = (36, 50, 34)
BUNDLE = ROOT / "bundles" / "hippocampus_mr_attention_unet_segmentation"
HIPPOCAMPUS = [Structure("Anterior", (1,)), Structure("Posterior", (2,))]
EXPECTED = "a T1 MR crop around one left hippocampus (mirror a right one)"
DATA = SHARED / "data"


def crop(seed: int = 0, shape=SHAPE) -> np.ndarray:
    """Return a crop like those of MR: bright tissue of several kinds, dark gaps, no background."""
    generator = np.random.default_rng(seed)
    return generator.choice([20.0, 55, 65, 80, 95], shape, p=[0.1, 0.2, 0.3, 0.25, 0.15]) + generator.normal(
        0, 6, shape
    )


def head(seed: int = 0, shape=SHAPE) -> np.ndarray:
    """Return a crop whose surroundings were set to zero."""
    image = crop(seed, shape)
    image[:9], image[-9:], image[:, :9] = 0, 0, 0
    return image


def ct(seed: int = 0, shape=SHAPE) -> np.ndarray:
    image = np.random.default_rng(seed).normal(40, 70, shape).round()
    image[:8] = -1000
    return image


def trained(images, **entries) -> dict:
    facts = spread([image_facts(image[None], np.eye(4)) for image in images])
    volumes = {"Anterior": [1.0 + 0.1 * n for n in range(16)], "Posterior": [2.0 + 0.01 * n for n in range(12)]}
    shares = {"largest_piece_share": {"Anterior": 1.0, "Posterior": 0.5}}
    return {**facts, "volumes_ml": volumes, **shares, "border_share": {"Anterior": 0.0, "Posterior": 0.3}, **entries}


MR = trained([crop(seed) for seed in range(1, 4)])


def found(image, training_data=MR, structures=(), affine=None, spacing=(1, 1, 1), **more) -> list[tuple]:
    channels = image if isinstance(image, list) else [image]
    facts = image_facts(channels, np.eye(4) if affine is None else affine)
    record = {"working_spacing": list(spacing), "structures": list(structures)}
    warnings = find_warnings(record, facts, training_data, **more)
    for warning in warnings:
        assert set(warning) == {"kind", "structure", "text"}
        assert "\n" not in warning["text"]
    return [(warning["kind"], warning["structure"], warning["text"]) for warning in warnings]


def kinds(*arguments, **more) -> list[str]:
    return [kind for kind, *_ in found(*arguments, **more)]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: (x - x.min()) / (x.max() - x.min()),
        lambda x: (x - x.mean()) / x.std(),
        lambda x: 7e5 * x,
        lambda x: x + 1024,
        lambda x: np.round(255 * (x - x.min()) / (x.max() - x.min())),
        lambda x: x[3:-3, 3:-3, 3:-3],
        lambda x: x[::-1, :, ::-1],
        lambda x: x + np.random.default_rng(5).normal(0, 6, x.shape),
    ],
    ids=["as is", "0 to 1", "z-score", "bright", "offset", "8 bits", "smaller", "flipped", "noise"],
)
def test_what_the_normalisation_takes_away_is_nothing_to_warn_of(change):
    assert found(change(crop())) == []


@pytest.mark.parametrize(
    ("image", "training_data", "words"),
    [
        (ct(), MR, "the image looks like CT, with intensities from -1e+03 to "),
        (
            crop(),
            trained([ct(1), ct(2)]),
            "the image does not look like CT in Hounsfield units, with intensities from ",
        ),
        (ct() + 1024, trained([ct(1), ct(2)]), "check its slope and intercept"),
        ((crop() > 60).astype(float), MR, "the image has 2 different values, in training "),
        (head(), MR, "the image has the value 0 in 59 % of its voxels, in training one value had "),
        (np.pad(crop(), 3), MR, "check that nothing was cut away around what it shows, and that it has no frame"),
        (
            crop(),
            trained([head(1), head(2)]),
            "remove the surroundings as in training, such as the skull around a brain",
        ),
        (crop() ** 6, MR, "between dark and bright"),
    ],
    ids=["CT", "no CT", "raw CT", "mask", "no surroundings", "frame", "surroundings", "contrast"],
)
def test_other_intensities(image, training_data, words):
    ((kind, structure, text),) = found(image, training_data)
    assert (kind, structure) == ("intensity", None)
    assert words in text


def test_of_several_channels_the_odd_one_is_named():
    pair = {**MR, "intensity": MR["intensity"] * 2}
    assert found([crop(1), crop(2)], pair) == []
    ((_, _, text),) = found([crop(1), ct()], pair)
    assert text.startswith("channel 2 looks like CT")
    assert found(crop(), pair)[0][2] == "the image has 1 channels, in training 2; select the channels"


def test_what_training_did_is_not_odd():
    assert found(head(), trained([head(1), head(2)])) == []
    assert found(ct(), trained([ct(1), ct(2)])) == []
    assert found(ct(), trained([ct(1), crop(2)])) == []  # both were trained on
    assert found(crop(), trained([ct(1), crop(2)])) == []
    mask = (crop() > 60).astype(float)
    assert found(mask, trained([mask, mask])) == []


def test_large_and_small_images():
    large = crop(shape=(80, 50, 34))
    (kind, _, text), *rest = found(large, expected=EXPECTED)
    assert (kind, rest) == ("size", [])
    assert text == (
        "the image has (80, 50, 34) voxels after resampling, more than 2 times the largest in training, (36, 50, 34): "
        f"this network expects {EXPECTED}, and its result elsewhere means nothing"
    )
    assert kinds(large, max_shape=(43, 59, 47)) == []
    assert kinds(large, None) == []
    assert kinds(large, None, max_shape=(36, 50, 34)) == ["size"]
    assert kinds(crop(shape=(72, 50, 34))) == []
    assert kinds(large, affine=np.diag([0.5, 1, 1, 1])) == []  # of half the voxels at the network's spacing
    ((kind, _, text),) = found(crop(shape=(17, 50, 34)))
    assert kind == "size"
    assert text.startswith(
        "the image is 17 x 50 x 34 mm (left to right, back to front, bottom to top), in training 36 x"
    )
    assert kinds(crop(shape=(18, 50, 34))) == []


def test_coarse_voxels():
    thick = np.diag([1, 1, 2.5, 1.0])
    ((kind, _, text),) = found(crop(shape=(36, 50, 14)), affine=thick)
    assert kind == "spacing"
    assert (
        "the voxels are 1 x 1 x 2.5 mm (left to right, back to front, bottom to top), in training 1 x 1 x 1 mm" in text
    )
    assert kinds(crop(shape=(36, 50, 17)), affine=np.diag([1, 1, 2.0, 1])) == []
    assert kinds(crop(shape=(72, 100, 68)), affine=np.diag([0.5, 0.5, 0.5, 1])) == []


def structure(name="Anterior", **entries):
    full = {"name": name, "voxels": 1620, "volume_ml": 1.62, "pieces": 1, "largest_piece_share": 1.0}
    return {**full, "touches_border": False, **entries}


ABSENT = {"voxels": 0, "volume_ml": 0.0, "pieces": 0, "largest_piece_share": None}


@pytest.mark.parametrize(
    ("entries", "training_data", "wanted"),
    [
        ({}, MR, []),
        ({}, None, []),
        (ABSENT, MR, ["Anterior was not found; it is there in 16 of 16 training cases: look at the image"]),
        (ABSENT, None, ["Anterior was not found: look at the image, and at what it shows"]),
        (ABSENT, {**MR, "volumes_ml": {"Anterior": [0, *range(1, 10)]}}, []),
        (
            {"pieces": 3, "largest_piece_share": 0.82},
            MR,
            ["Anterior is in 3 pieces, the largest with 82 % of it, in training 100 % at least; look at the mask"],
        ),
        ({"pieces": 3, "largest_piece_share": 0.96}, MR, []),
        ({"pieces": 3, "largest_piece_share": 0.3}, None, []),
        (
            {"touches_border": True},
            MR,
            ["Anterior is cut by the border of the image, so that its volume is that of a part"],
        ),
        ({"touches_border": True}, None, ["Anterior is cut by the border of the image"]),
        ({"volume_ml": 0.6}, MR, ["Anterior has 0.600 mL, in 16 training cases 1 to 2.50 mL; look at the mask"]),
        ({"volume_ml": 4.0}, MR, ["Anterior has 4.00 mL, in 16 training cases 1 to 2.50 mL"]),
        ({"volume_ml": 0.65}, MR, []),
        ({"volume_ml": 3.9}, MR, []),
        ({"volume_ml": 9.0}, {**MR, "volumes_ml": {"Anterior": [1.0] * 9}}, []),  # too few cases to say what is usual
        ({"name": "Posterior", "volume_ml": 1.7}, MR, []),
        ({"name": "Posterior", "volume_ml": 1.5}, MR, ["Posterior has 1.50 mL"]),  # they hardly vary
        ({"name": "Posterior", "volume_ml": 2.0, "touches_border": True}, MR, []),  # many were cut in training
        ({"name": "Posterior", "volume_ml": 2.0, "largest_piece_share": 0.5, "pieces": 2}, MR, []),  # both sides
        (
            {"name": "Posterior", "volume_ml": 2.0, "largest_piece_share": 0.4, "pieces": 9},
            MR,
            ["Posterior is in 9 pieces"],
        ),
        ({"name": "Other"}, MR, []),
    ],
)
def test_structures(entries, training_data, wanted):
    warnings = found(crop(), training_data, [structure(**entries)])
    assert len(warnings) == len(wanted)
    for (_, name, text), words in zip(warnings, wanted, strict=True):
        assert text.startswith(words)
        assert name == entries.get("name", "Anterior")


def test_every_kind_of_warning_is_one_of_the_record():
    odd = structure(volume_ml=9.0, pieces=2, largest_piece_share=0.6, touches_border=True)
    warnings = found(ct(shape=(80, 20, 30)), MR, [odd, structure("Posterior", **ABSENT)], affine=np.diag([1, 1, 3, 1]))
    assert [kind for kind, *_ in warnings] == [
        *("size", "size", "spacing", "intensity"),
        *("pieces", "border", "volume", "absent"),
    ]


def shipped() -> dict:
    description = read_training_data(BUNDLE / "models" / "model.pt")
    assert description is not None, "python -m tools bundles describe"
    return description


def real(folder: str, count: int) -> list[Path]:
    files = sorted((DATA / folder / "imagesTr").glob("*.nii.gz"))[:count]
    if not files:
        pytest.skip(f"there is no <repository>/../shared/data/{folder}")
    return files


def of_files(files, structures=(), **more) -> list[str]:
    facts = image_facts(read_voxels(files), read_grid(files).affine)
    record = {"working_spacing": [1.0, 1.0, 1.0], "structures": list(structures)}
    return [w["kind"] for w in find_warnings(record, facts, shipped(), (43, 59, 47), EXPECTED)]


def test_no_reference_of_the_hippocampus_is_odd():
    warned = []
    for image in real("Task04_Hippocampus", 208):
        label = image.parents[1] / "labelsTr" / image.name
        voxels = read_voxels(label)[0]
        warned += of_files(image, measure(voxels.astype(np.uint8), read_grid(label).affine, HIPPOCAMPUS))
    assert warned == []


@pytest.mark.parametrize(
    ("folder", "wanted"),
    [
        ("OASIS12_1mm", {"size", "intensity"}),
        ("ACDC10", {"size", "spacing", "intensity"}),
        ("OpenKBP93", {"size", "spacing", "intensity"}),
    ],
)
def test_images_of_other_bodies_are_odd(folder, wanted):
    for image in real(folder, 3):
        assert set(of_files(image)) == wanted


def test_masks_and_shapes_are_odd():
    label = real("Task04_Hippocampus", 1)[0]
    assert of_files(label.parents[1] / "labelsTr" / label.name) == ["intensity"]
    file = DATA / "AdrenalMNIST3D" / "adrenalmnist3d_trainval.npz"
    if not file.is_file():
        pytest.skip("there is no <repository>/../shared/data/AdrenalMNIST3D")
    shapes = np.load(file)["val_images"][:20]
    for shape in shapes:
        facts = image_facts(shape[None].astype(np.float32), np.eye(4))
        warnings = find_warnings({"working_spacing": [1, 1, 1], "structures": []}, facts, shipped())
        assert [warning["kind"] for warning in warnings] == ["intensity"]


def test_hippocampi_of_another_scanner_are_not():
    pytest.importorskip("pydicom")
    folders = sorted({file.parent for file in (DATA / "HippoCrop_DICOM").rglob("*.dcm")})
    if not folders:
        pytest.skip("there is no <repository>/../shared/data/HippoCrop_DICOM")
    assert [of_files(folder) for folder in folders] == [[]] * len(folders)
