"""Checks of the data that speak before anything is trained or written."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from custom_networks.workflow.data.cases import Files, files_of
from custom_networks.workflow.data.label_checks import (
    grid_of,
    grid_problems,
    is_empty,
    value_problems,
    values_of_no_class,
)
from custom_networks.workflow.data.volumes import NOTES, read_volume
from custom_networks.workflow.transforms.class_labels import LabelValues, check_ignore_value, class_values
from custom_networks.workflow.transforms.regions import Regions

logger = logging.getLogger(__name__)

LARGER = 2.0
"""How many times larger than in training an axis may be."""


class CaseObserver(Protocol):
    """What looks at the training cases while they are checked, so that none is read twice."""

    def add(self, image: MetaTensor, label: MetaTensor) -> None:
        """Look at a case.

        Args:
            image: ``(C, *S)``, as read.
            label: ``(1, *S)``, label values as in the file.
        """


def voxel_problems(image: Tensor) -> list[str]:
    """Return whether a voxel is NaN or infinite.

    Args:
        image: ``(C, *S)``.
    """
    bad = int((~torch.isfinite(image)).sum())
    return [f"holds {bad} NaN or infinite voxels; replace them, for example by the background value"] if bad else []


def channel_problems(channels: int, shape: Sequence[int], in_channels: int) -> list[str]:
    """Return whether an image has other channels than the network expects.

    Args:
        channels: of the image.
        shape: voxels per axis.
        in_channels: number of channels that the network expects.
    """
    if channels == in_channels:
        return []
    return [
        f"has {channels} channels of shape {tuple(shape)} where {in_channels} are expected; select the channels, or "
        f"set in_channels to {channels} and train"
    ]


def image_problems(image: Tensor, in_channels: int) -> list[str]:
    """Return why an image is no finite 3D volume of the expected channels, in sentences without their subject.

    Args:
        image: ``(C, *S)``.
        in_channels: number of channels that the network expects.
    """
    found = [*channel_problems(image.shape[0], image.shape[1:], in_channels), *voxel_problems(image)]
    # a channel may well be empty: a sequence that was not taken
    if not found and bool((image == image.flatten()[0]).all()):
        found.append("is a constant image; there is nothing to see: replace it")
    return found


def check_image(image: Tensor, path: Files, in_channels: int) -> None:
    """Refuse an image that is no finite 3D volume of the expected channels.

    Args:
        image: ``(C, *S)``.
        path: the file, or the files of its channels, for the message.
        in_channels: number of channels that the network expects.

    Raises:
        ValueError: if the number of channels is wrong, a voxel is NaN or infinite, or all are the same.
    """
    problems = image_problems(image, in_channels)
    if problems:
        raise ValueError(f"{files_of(path)[0]} {problems[0]}")


def _check_label(
    case: Mapping[str, Any],
    image: MetaTensor,
    label: MetaTensor,
    label_names: Sequence[str],
    label_values: LabelValues,
    regions: Regions,
    ignore_value: int | None,
) -> bool:
    """Refuse a label that does not belong to the image or the classes; return whether it has any foreground."""
    path = case["label"]
    values = [value for value in torch.unique(label.as_tensor()).tolist() if value != ignore_value]
    problems = [
        *grid_problems(grid_of(label), grid_of(image), files_of(case["image"])[0]),
        *value_problems(values, label_names, label_values, regions),
    ]
    if problems:
        raise ValueError(f"{path} {problems[0]}")
    classes = class_values(label_names, label_values, regions)
    if others := values_of_no_class(values, classes):
        logger.info("%s holds label values of no region, which are background: %s", path, others)
    return not is_empty(values, classes)


def _check_leak(case: Mapping[str, Any], digest: bytes, trained: dict[bytes, list[Path]], training: bool) -> None:
    """Refuse an image to validate on that has the voxels of one to train on, in another file."""
    files = files_of(case["image"])
    if training:
        trained.setdefault(digest, files)
    elif digest in trained and [path.resolve() for path in files] != [path.resolve() for path in trained[digest]]:
        raise ValueError(
            f"{files[0]} is to validate on and holds the voxels of {trained[digest][0]}, which is to train on; remove "
            "one of them, or put both into one fold"
        )


def check_data(
    in_channels: int,
    label_names: Sequence[str] | None = None,
    training: Sequence[Mapping[str, Any]] = (),
    validation: Sequence[Mapping[str, Any]] = (),
    inference: Sequence[Mapping[str, Any]] = (),
    label_values: LabelValues = None,
    regions: Regions = None,
    ignore_value: int | None = None,
    series: str | None = None,
    observer: CaseObserver | None = None,
) -> None:
    """Read every image and label once, refuse the first that cannot be used, and say what their headers leave open.

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
        series: SeriesInstanceUID to take from DICOM folders of several.
        observer: gets every training case. Each process of a distributed training has one: were it the first one's
            alone, the others would wait for it longer than they may.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file or ``ignore_value`` cannot be used, or no training label has any foreground.
    """
    if label_names is not None:
        check_ignore_value(ignore_value, label_names, label_values, regions)
    empty: list[str] = []
    trained: dict[bytes, list[Path]] = {}
    for number, case in enumerate([*training, *validation, *inference]):
        image = read_volume(case["image"], series=series)
        for note in image.meta[NOTES]:
            logger.warning("%s %s", files_of(case["image"])[0], note)
        check_image(image, case["image"], in_channels)
        if training and validation:
            _check_leak(case, hashlib.blake2b(image.numpy()).digest(), trained, number < len(training))
        if "label" not in case:
            continue
        label = read_volume(case["label"], labels=True)
        if not _check_label(case, image, label, label_names or (), label_values, regions, ignore_value):
            empty.append(case["label"])
            logger.warning("%s is all background", case["label"])
        if observer is not None and number < len(training):
            observer.add(image, label)
    if training and {case["label"] for case in training} <= set(empty):
        raise ValueError(
            f"all {len(training)} training labels are background only, such as {training[0]['label']}; "
            "there is nothing to learn: check the labels"
        )
    logger.info("checked %d images", len(training) + len(validation) + len(inference))


def size_problem(shape: Sequence[int], max_shape: Sequence[int], expected: str, factor: float = LARGER) -> str | None:
    """Return a sentence about an image that is much larger than anything in training, or None.

    Args:
        shape: voxels along the axes of RAS at the spacing of training.
        max_shape: the same of the largest in training.
        expected: what the network expects, in words.
        factor: how many times larger an axis may be.
    """
    if all(size <= factor * largest for size, largest in zip(shape, max_shape, strict=True)):
        return None
    return (
        f"the image has {tuple(shape)} voxels after resampling, more than {factor:g} times the largest in training, "
        f"{tuple(max_shape)}: this network expects {expected}, and its result elsewhere means nothing"
    )


class WarnLargeInputd(MapTransform):
    """Warn about an image that is much larger than anything in training.

    Args:
        keys: images, already in the orientation and spacing of training.
        max_shape: largest shape in training, in voxels.
        expected: what the network expects, in words.
        factor: how many times larger an axis may be.
    """

    def __init__(
        self, keys: Sequence[str] | str, max_shape: Sequence[int], expected: str, factor: float = LARGER
    ) -> None:
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
            if problem := size_problem(data[key].shape[1:], self.max_shape, self.expected, self.factor):
                logger.warning("%s", problem)
        return dict(data)
