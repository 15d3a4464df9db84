from __future__ import annotations

import logging
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom_networks.workflow import WarnLargeInputd, check_data
from custom_networks.workflow.data import label_checks
from tests.conftest import SHARED
from tests.synthetic import write_nifti

NAMES = ["background", "Anterior", "Posterior"]
SHAPE = (6, 5, 4)


def image(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def label(value: float = 2, dtype=np.uint8, shape=SHAPE) -> np.ndarray:
    array = np.zeros(shape, dtype)
    array[1:4, 1:3, 1:3] = value
    return array


def case(folder: Path, name: str, pixels=None, mask=None, affine=None, mask_affine=None) -> dict[str, str]:
    return {
        "image": str(
            write_nifti(image() if pixels is None else pixels, folder / "imagesTr" / f"{name}.nii.gz", affine)
        ),
        "label": str(
            write_nifti(label() if mask is None else mask, folder / "labelsTr" / f"{name}.nii.gz", mask_affine)
        ),
    }


def refused(words, kind=ValueError, in_channels=1, **lists) -> None:
    with pytest.raises(kind, match=r"\A[^\n]+\Z") as error:
        check_data(in_channels, NAMES, **lists)
    assert isinstance(words, list)
    for word in words:
        assert word in str(error.value)


def said(caplog) -> list[tuple[str, str]]:
    """List what this package logged (MONAI's DICOM reader also warns, of a codec that is not installed)."""
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.name.startswith("custom_networks")]


def with_voxel(value: float) -> np.ndarray:
    pixels = image()
    pixels[2, 3, 1] = value
    return pixels


def test_good_data_passes(tmp_path, caplog):
    good = [case(tmp_path, str(n), image() + n, label(n, np.float32)) for n in (1, 2)]
    with caplog.at_level(logging.INFO):
        check_data(1, NAMES, training=good[:1], validation=good[1:])
        check_data(1, inference=[{"image": good[0]["image"]}])
    assert said(caplog) == [("INFO", "checked 2 images"), ("INFO", "checked 1 images")]


def test_channels_on_the_last_axis(tmp_path):
    good = case(tmp_path, "two", image((*SHAPE, 2)))
    check_data(2, NAMES, training=[good])
    refused([good["image"], "2 channels", "1 are expected", "set in_channels to 2"], training=[good])
    refused([good["image"], "2 channels", "4 are expected"], in_channels=4, validation=[good])


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (with_voxel(np.nan), ["1 NaN or infinite voxels", "replace them"]),
        (with_voxel(np.inf), ["1 NaN or infinite voxels", "replace them"]),
        (with_voxel(-np.inf), ["1 NaN or infinite voxels", "replace them"]),
        (image((6, 5)), ["2 axes", "(6, 5)", "give a 3D image"]),
        (image((*SHAPE, 3)), ["3 channels", "1 are expected", "select the channels"]),
    ],
)
@pytest.mark.parametrize("section", ["training", "validation", "inference"])
def test_bad_images(tmp_path, pixels, words, section):
    bad = case(tmp_path, "bad", pixels)
    refused([bad["image"], *words], **{section: [case(tmp_path, "good"), bad]})


@pytest.mark.parametrize("which", ["image", "label"])
def test_missing_file(tmp_path, which):
    bad = case(tmp_path, "gone")
    Path(bad[which]).unlink()
    refused([bad[which], "there is no file", "correct the list of cases"], FileNotFoundError, training=[bad])


@pytest.mark.parametrize("which", ["image", "label"])
@pytest.mark.parametrize("keep", [0.6, 0.1])
def test_truncated_file(tmp_path, which, keep):
    bad = case(tmp_path, "cut")
    path = Path(bad[which])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    refused([bad[which], "is truncated: it ends before its voxels do"], training=[bad])


def test_label_values_that_are_named(tmp_path):
    good = case(tmp_path, "good", mask=label(500, np.int16))
    check_data(1, NAMES, training=[good], label_values=[0, 500, 7])
    with pytest.raises(
        ValueError, match=r"holds the label value 500, which no entry of label_values names \(\[0, 1, 7\]"
    ):
        check_data(1, NAMES, training=[good], label_values=[0, 1, 7])


@pytest.mark.parametrize("knobs", [{}, {"label_values": [0, 1, 7]}, {"regions": [[1, 2], [2]]}])
def test_voxels_without_a_label(tmp_path, caplog, knobs):
    mask = label(1)
    mask[0, 0] = 9
    good = case(tmp_path, "good", mask=mask)
    with caplog.at_level(logging.INFO):
        check_data(1, NAMES, training=[good], ignore_value=9, **knobs)
    assert said(caplog) == [("INFO", "checked 1 images")]
    unlabelled = case(tmp_path, "unlabelled", mask=np.full_like(mask, 9))
    with pytest.raises(ValueError, match="all 1 training labels are background only"):
        check_data(1, NAMES, training=[unlabelled], ignore_value=9, **knobs)
    with pytest.raises(ValueError, match="ignore_value is 1, which is also the value of"):
        check_data(1, NAMES, training=[good], ignore_value=1, **knobs)


def test_values_of_no_region_are_background(tmp_path, caplog):
    mask = label(500, np.int16)
    mask[0, 0] = 7
    good = case(tmp_path, "good", mask=mask)
    with caplog.at_level(logging.INFO):
        check_data(1, NAMES, training=[good], regions=[[400, 500], [400]])
    other = f"{good['label']} holds label values of no region, which are background: [7]"
    assert said(caplog) == [("INFO", other), ("INFO", "checked 1 images")]
    with pytest.raises(ValueError, match="all 1 training labels are background only"):
        check_data(1, NAMES, training=[good], regions=[[400, 300], [400]])


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_a_value_that_cannot_be_of_a_region(tmp_path, value, shown):
    bad = case(tmp_path, "bad", mask=label(value, np.float32))
    with pytest.raises(ValueError, match=f"bad.nii.gz holds the label value {shown}, which is no integer; correct"):
        check_data(1, NAMES, validation=[bad], regions=[[1, 2], [1]])


@pytest.mark.parametrize("value", [3, 255])
def test_label_value_outside_the_classes(tmp_path, value):
    bad = case(tmp_path, "bad", mask=label(value))
    words = [bad["label"], f"label value {value}", "3 classes (0 to 2: background, Anterior, Posterior)", "label_names"]
    refused(words, training=[bad])
    refused(words, validation=[bad])


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5,"), (-1, "-1 "), (np.nan, "nan,"), (np.inf, "inf,")])
def test_label_value_that_is_no_class_index(tmp_path, value, shown):
    bad = case(tmp_path, "bad", mask=label(value, np.float32))
    refused([bad["label"], f"label value {shown}", "correct the label"], training=[bad])


def test_geometry_that_differs(tmp_path):
    shifted = np.eye(4)
    shifted[0, 3] = 1.5
    bad = case(tmp_path, "shifted", affine=np.eye(4), mask_affine=shifted)
    refused([bad["label"], bad["image"], "up to 1.5 mm", "resample"], training=[bad])
    bad = case(tmp_path, "flipped", affine=np.eye(4), mask_affine=np.diag([-1.0, 1, 1, 1]))
    refused([bad["label"], "up to 10 mm", "resample"], validation=[bad])
    close = np.eye(4)
    close[0, 3] = 0.005
    check_data(1, NAMES, training=[case(tmp_path, "rounded", affine=np.eye(4), mask_affine=close)])


def test_an_affine_that_is_not_a_number():
    affine = torch.eye(4)
    good, bad = (
        label_checks.grid_of(MetaTensor(torch.ones(1, 2, 2, 2), affine=a)) for a in (affine, affine * math.nan)
    )
    (problem,) = label_checks.grid_problems(bad, good, "image.nii")
    assert "has another affine than its image image.nii, by up to nan mm" in problem
    assert not label_checks.grid_problems(good, good, "image.nii")


def test_shape_that_differs(tmp_path):
    bad = case(tmp_path, "small", mask=label(shape=(6, 5, 3)))
    refused([bad["label"], bad["image"], "(6, 5, 3)", "(6, 5, 4)", "resample"], training=[bad])


def test_label_with_channels(tmp_path):
    bad = case(tmp_path, "one_hot", mask=label(1, shape=(*SHAPE, 2)))
    refused([bad["label"], "2 channels where one of class indices", "merge"], training=[bad])


def test_an_empty_label_is_a_warning_and_only_empty_ones_an_error(tmp_path, caplog):
    empty = [case(tmp_path, f"empty_{n}", image() + n, label(0)) for n in (1, 2)]
    full = case(tmp_path, "full")
    check_data(1, NAMES, training=[empty[0], full], validation=[empty[1]])
    assert said(caplog) == [("WARNING", f"{bad['label']} is all background") for bad in empty]
    refused(["all 2 training labels", empty[0]["label"], "check the labels"], training=empty, validation=[full])


def test_an_image_on_both_sides_of_the_split_is_refused(tmp_path):
    cases = [case(tmp_path, name, image() + number) for number, name in enumerate("abc")]
    check_data(1, NAMES, training=cases[:2], validation=cases[2:])
    check_data(1, NAMES, training=cases, validation=cases)  # one fold of all
    copy = case(tmp_path, "copy", image() + 1)
    check_data(1, NAMES, training=[*cases, copy])
    refused(
        [copy["image"], f"holds the voxels of {cases[1]['image']}, which is to train on"],
        training=cases[:2],
        validation=[cases[2], copy],
    )


def test_a_constant_image_is_refused(tmp_path):
    bad = case(tmp_path, "flat", np.full(SHAPE, 3, np.float32))
    refused([bad["image"], "constant image"], training=[bad])
    refused([bad["image"], "constant image"], inference=[{"image": bad["image"]}])


def test_what_a_header_leaves_open_is_said(tmp_path, caplog):
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_zooms((1, 1, 2))
    nib.Nifti1Image(image(), None, header).to_filename(tmp_path / "a.nii")
    check_data(1, inference=[{"image": str(tmp_path / "a.nii")}])
    ((level, words),) = said(caplog)
    assert level == "WARNING"
    assert words.startswith(f"{tmp_path / 'a.nii'} has neither sform nor qform: left and right are not known")


def test_a_real_dicom_series_passes():
    folders = sorted((SHARED / "data" / "HippoCrop_DICOM").glob("*/*"))
    if not folders:
        pytest.skip("the DICOM series are not at <repository>/../shared/data")
    check_data(1, inference=[{"image": str(folders[0])}])


@pytest.mark.parametrize(
    ("shape", "warned"), [((20, 40, 60), False), ((21, 1, 1), True), ((1, 41, 1), True), ((1, 1, 61), True)]
)
def test_warning_above_twice_the_size_only(shape, warned, caplog):
    data = {"image": torch.zeros(1, *shape), "other": 3}
    result = WarnLargeInputd("image", (10, 20, 30), "a crop of one hippocampus")(data)
    assert result == data
    assert result["image"] is data["image"]
    assert bool(caplog.records) == warned
    if warned:
        assert str(shape) in caplog.text
        assert "expects a crop of one hippocampus" in caplog.text


def test_the_factor_of_the_size_warning(caplog):
    WarnLargeInputd("image", (10, 10, 10), "a crop", factor=3)({"image": torch.zeros(1, 30, 10, 10)})
    assert not caplog.records
    WarnLargeInputd("image", (10, 10, 10), "a crop", factor=3)({"image": torch.zeros(1, 31, 10, 10)})
    assert len(caplog.records) == 1


def test_an_observer_gets_the_training_cases(tmp_path):
    seen = []

    class Observer:
        def add(self, image, label):
            seen.append((image.shape, label.dtype, int(label.max()), np.asarray(image.affine)[0, 3]))

    cases = [case(tmp_path, name, mask=label(value)) for name, value in (("a", 1), ("b", 2), ("c", 1))]
    cases[2] = case(tmp_path, "c", pixels=image() + 1)
    check_data(1, NAMES, training=cases[:2], validation=cases[2:], observer=Observer())
    assert seen == [((1, *SHAPE), torch.int32, value, -7.0) for value in (1, 2)]
