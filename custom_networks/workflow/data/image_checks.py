"""Checks of the data that speak before anything is trained or written."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirst, LoadImage, MapTransform

from custom_networks.workflow.transforms.class_labels import LabelValues, class_values
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
        raise ValueError(
            f"{path} needs a package that is missing ({error}); pip install 'custom_networks[dicom]'"
        ) from error
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        if Path(path).is_dir() and "pydicom" in reason:
            reason = "reading DICOM needs pydicom: pip install 'custom_networks[dicom]'"
        raise ValueError(
            f"{path} cannot be read as an image ({reason}); it may be truncated or corrupt: replace it"
        ) from error


def check_image(image: MetaTensor, path: str, in_channels: int) -> None:
    """Refuse an image that is not a finite 3D volume with the expected channels.

    Args:
        image: ``(C, *spatial)``.
        path: the file, for the message.
        in_channels: number of channels that the network expects.

    Raises:
        ValueError: if the number of axes or channels is wrong, or a voxel is NaN or infinite.
    """
    size = tuple(image.shape[1:])
    if len(size) != 3:
        raise ValueError(f"{path} has {len(size)} spatial axes, shape {size}, where 3 are expected; give a 3D image")
    if image.shape[0] != in_channels:
        raise ValueError(
            f"{path} has {image.shape[0]} channels of shape {size} where {in_channels} are expected; select the "
            f"channels, or set in_channels to {image.shape[0]} and train"
        )
    bad = int((~torch.isfinite(image)).sum())
    if bad:
        raise ValueError(
            f"{path} holds {bad} NaN or infinite voxels; replace them, for example by the background value"
        )


def _check_label(
    label: MetaTensor,
    path: str,
    image: MetaTensor,
    image_path: str,
    label_names: Sequence[str],
    label_values: LabelValues = None,
    regions: Regions = None,
) -> bool:
    """Refuse a label that does not belong to the image or the classes; return whether it has any foreground."""
    if label.shape[0] != 1:
        raise ValueError(f"{path} has {label.shape[0]} channels where one of class indices is expected; merge them")
    if label.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"{path} has shape {tuple(label.shape[1:])} but {image_path} {tuple(image.shape[1:])}; resample one"
        )
    difference = float((label.affine - image.affine).abs().max())
    if not difference <= 1e-2:  # also true for NaN
        raise ValueError(
            f"the geometry (affine) of {path} differs from {image_path} by up to {difference:.3g} mm; "
            "resample the label to the image or copy the right header"
        )
    values = {float(value) for value in torch.unique(label.as_tensor())}
    background, *classes = class_values(label_names, label_values, regions)
    foreground = {float(value) for entry in classes for value in entry}
    wrong = sorted(values - foreground - set(map(float, background)))
    if regions is not None:
        broken = [value for value in wrong if not value.is_integer()]
        if broken:
            raise ValueError(f"{path} holds the label value {broken[0]:g}, which is no integer; correct the label")
        if wrong:
            logger.info("%s holds label values of no region, which are background: %s", path, list(map(int, wrong)))
        return bool(values & foreground)
    if wrong and label_values is not None:
        raise ValueError(
            f"{path} holds the label value {wrong[0]:g}, which no entry of label_values names ({list(label_values)} "
            f"for {', '.join(label_names)}); correct the label or set label_values"
        )
    if wrong:
        raise ValueError(
            f"{path} holds the label value {wrong[0]:g} but there are {len(label_names)} classes (0 to "
            f"{len(label_names) - 1}: {', '.join(label_names)}); correct the label or set label_names"
        )
    return bool(values & foreground)


def check_data(
    in_channels: int,
    label_names: Sequence[str] | None = None,
    training: Sequence[Mapping[str, str]] = (),
    validation: Sequence[Mapping[str, str]] = (),
    inference: Sequence[Mapping[str, str]] = (),
    label_values: LabelValues = None,
    regions: Regions = None,
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

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file cannot be used, or no training label has any foreground.
    """
    empty = []
    reader = LoadImage(image_only=True)
    for case in [*training, *validation, *inference]:
        image = load_image(case["image"], reader)
        check_image(image, case["image"], in_channels)
        if "label" in case:
            label = load_image(case["label"], reader)
            named = (label_names or (), label_values, regions)
            if not _check_label(label, case["label"], image, case["image"], *named):
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
