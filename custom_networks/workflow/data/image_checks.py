"""Checks of the data that speak before anything is trained or written."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirst, LoadImage, MapTransform

from custom_networks.workflow.data.label_checks import (
    grid_of,
    grid_problems,
    integer_problems,
    is_empty,
    value_problems,
    values_of_no_class,
)
from custom_networks.workflow.transforms.class_labels import LabelValues, check_ignore_value, class_values
from custom_networks.workflow.transforms.regions import Regions

logger = logging.getLogger(__name__)


def load_image(path: str, reader: LoadImage) -> MetaTensor:
    """Load an image with its channels first, or say in one sentence why not.

    Args:
        path: a file, or the folder of a DICOM series.
        reader: MONAI's reader.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}; correct the list of cases or restore the file")
    try:
        return EnsureChannelFirst()(reader(path))
    except ImportError as error:
        raise ValueError(f"{path} needs a package that is missing ({error}); pip install pydicom") from error
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        if Path(path).is_dir() and "pydicom" in reason:
            reason = "reading DICOM needs pydicom: pip install pydicom"
        raise ValueError(
            f"{path} cannot be read as an image ({reason}); it may be truncated or corrupt: replace it"
        ) from error


def read_volume(path: str | Path, reader: LoadImage) -> MetaTensor:
    """Load an image whose voxels are real numbers and whose header places them.

    Args:
        path: a file, or the folder of a DICOM series.
        reader: MONAI's reader.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is anything else.
    """
    header: Any = None
    if str(path).lower().endswith((".nii", ".nii.gz")) and Path(path).is_file():
        try:
            header = nibabel.load(path)
        except Exception as error:
            raise ValueError(f"{path} cannot be read as an image ({error}); replace it") from error
        if header.get_data_dtype().kind not in "biuf":
            raise ValueError(f"{path} has voxels of type {header.get_data_dtype()}; save real numbers")
    volume = load_image(str(path), reader)
    # MONAI's reader puts another affine in the place of one that cannot be
    problems = singular_problems(volume.affine.numpy() if header is None else header.affine)
    if problems:
        raise ValueError(f"{path} {problems[0]}")
    return volume


def singular_problems(affine: np.ndarray) -> list[str]:
    """Return whether an affine gives no volume to a voxel.

    Args:
        affine: voxels to mm.
    """
    if abs(float(np.linalg.det(affine[:3, :3]))) > 1e-9:
        return []
    return ["has a singular affine; correct the header"]


def voxel_problems(image: MetaTensor) -> list[str]:
    """Return whether a voxel is NaN or infinite.

    Args:
        image: ``(C, *S)``.
    """
    bad = int((~torch.isfinite(image)).sum())
    return [f"holds {bad} NaN or infinite voxels; replace them, for example by the background value"] if bad else []


def image_problems(image: MetaTensor, in_channels: int) -> list[str]:
    """Return why an image is not a finite 3D volume with the expected channels, in sentences without their subject.

    Args:
        image: ``(C, *S)``.
        in_channels: number of channels that the network expects.
    """
    size = tuple(image.shape[1:])
    if len(size) != 3:
        return [f"has {len(size)} spatial axes, shape {size}, where 3 are expected; give a 3D image"]
    found = []
    if image.shape[0] != in_channels:
        found.append(
            f"has {image.shape[0]} channels of shape {size} where {in_channels} are expected; select the channels, or "
            f"set in_channels to {image.shape[0]} and train"
        )
    return found + voxel_problems(image)


def check_image(image: MetaTensor, path: str, in_channels: int) -> None:
    """Refuse an image that is not a finite 3D volume with the expected channels.

    Args:
        image: ``(C, *S)``.
        path: the file, for the message.
        in_channels: number of channels that the network expects.

    Raises:
        ValueError: if the number of axes or channels is wrong, or a voxel is NaN or infinite.
    """
    problems = image_problems(image, in_channels)
    if problems:
        raise ValueError(f"{path} {problems[0]}")


def _check_label(
    case: Mapping[str, str],
    image: MetaTensor,
    reader: LoadImage,
    label_names: Sequence[str],
    label_values: LabelValues,
    regions: Regions,
    ignore_value: int | None,
) -> bool:
    """Refuse a label that does not belong to the image or the classes; return whether it has any foreground."""
    path, label = case["label"], load_image(case["label"], reader)
    values = [value for value in torch.unique(label.as_tensor()).tolist() if value != ignore_value]
    problems = [
        *grid_problems(grid_of(label), grid_of(image), case["image"]),
        *integer_problems(values),
        *value_problems(values, label_names, label_values, regions),
    ]
    if problems:
        raise ValueError(f"{path} {problems[0]}")
    classes = class_values(label_names, label_values, regions)
    if others := values_of_no_class(values, classes):
        logger.info("%s holds label values of no region, which are background: %s", path, list(map(int, others)))
    return not is_empty(values, classes)


def check_data(
    in_channels: int,
    label_names: Sequence[str] | None = None,
    training: Sequence[Mapping[str, str]] = (),
    validation: Sequence[Mapping[str, str]] = (),
    inference: Sequence[Mapping[str, str]] = (),
    label_values: LabelValues = None,
    regions: Regions = None,
    ignore_value: int | None = None,
) -> None:
    """Read every image and label once and refuse the first that cannot be used.

    Args:
        in_channels: number of channels that the network expects.
        label_names: names of the classes, background first; needed where there are labels.
        training: cases to train on.
        validation: cases to validate on.
        inference: images to segment.
        label_values: label values of the classes, see
            :func:`custom_networks.workflow.transforms.class_labels.class_values`.
        regions: label values of the regions, see
            :func:`custom_networks.workflow.transforms.regions.region_values`; a value that none of them holds is
            background.
        ignore_value: value of voxels without a label.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file or ``ignore_value`` cannot be used, or no training label has any foreground.
    """
    if label_names is not None:
        check_ignore_value(ignore_value, label_names, label_values, regions)
    empty = []
    reader = LoadImage(image_only=True)
    for case in [*training, *validation, *inference]:
        image = load_image(case["image"], reader)
        check_image(image, case["image"], in_channels)
        if "label" in case and not _check_label(
            case, image, reader, label_names or (), label_values, regions, ignore_value
        ):
            empty.append(case["label"])
            logger.warning("%s is all background", case["label"])
    if training and {case["label"] for case in training} <= set(empty):
        raise ValueError(
            f"all {len(training)} training labels are background only, such as {training[0]['label']}; "
            "there is nothing to learn: check the labels"
        )
    logger.info("checked %d images", len(training) + len(validation) + len(inference))


class WarnLargeInputd(MapTransform):
    """Warn about an image that is much larger than anything in training.

    Args:
        keys: images, already in the orientation and spacing of training.
        max_shape: largest shape in training, in voxels.
        expected: what the network expects, in words.
        factor: how many times larger an axis may be.
    """

    def __init__(self, keys: Sequence[str] | str, max_shape: Sequence[int], expected: str, factor: float = 2.0) -> None:
        super().__init__(keys)
        self.max_shape = tuple(max_shape)
        self.expected = expected
        self.factor = factor

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case unchanged.

        Args:
            data: the case.
        """
        for key in self.key_iterator(dict(data)):
            shape = tuple(data[key].shape[1:])
            if any(size > self.factor * largest for size, largest in zip(shape, self.max_shape, strict=True)):
                logger.warning(
                    "the image has %s voxels after resampling, more than %g times the largest in training, %s: this "
                    "network expects %s, and its result elsewhere means nothing",
                    shape,
                    self.factor,
                    self.max_shape,
                    self.expected,
                )
        return dict(data)
