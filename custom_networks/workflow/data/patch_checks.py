"""Checks of patches to classify, and the weights of their classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from custom_networks.checks import per_axis
from custom_networks.workflow.data.headers import at_spacing, in_ras
from custom_networks.workflow.data.image_checks import check_image
from custom_networks.workflow.data.volumes import read_volume

logger = logging.getLogger(__name__)


def _size_in_network(image: MetaTensor, spacing: Sequence[float]) -> tuple[int, ...]:
    """Return the size of an image in voxels once it is oriented to RAS and resampled."""
    return at_spacing(*in_ras(image.shape[1:], image.affine.numpy()), spacing)


def check_patches(
    in_channels: int,
    spacing: Sequence[float],
    patch_size: Sequence[int],
    min_size: Sequence[int],
    training: Sequence[Mapping[str, Any]] = (),
    validation: Sequence[Mapping[str, Any]] = (),
    inference: Sequence[Mapping[str, Any]] = (),
    series: str | None = None,
) -> None:
    """Read every patch once and refuse the first that cannot be used.

    Args:
        in_channels: number of channels that the network expects.
        spacing: voxel size in mm to which patches are resampled.
        patch_size: size in voxels to which they are then padded or cropped.
        min_size: least size that the network takes, in voxels: the receptive field of its convolutions and a bit more.
        training: cases to train on.
        validation: cases to validate on.
        inference: patches to classify.
        series: SeriesInstanceUID to take from DICOM folders of several.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file cannot be used, or a patch or ``patch_size`` is smaller than ``min_size``.
    """
    least = tuple(min_size)
    wanted = per_axis(patch_size, len(least), "patch_size")
    if any(s < m for s, m in zip(wanted, least, strict=True)):
        raise ValueError(f"patch_size {wanted} is smaller than the network can take, {least}; set it larger")
    cases = [*training, *validation, *inference]
    for case in cases:
        image = read_volume(case["image"], series=series)
        check_image(image, case["image"], in_channels)
        size = _size_in_network(image, spacing)
        if any(s < m for s, m in zip(size, least, strict=True)):
            raise ValueError(
                f"{case['image']} has {size} voxels of {tuple(spacing)} mm, smaller than the network can take, "
                f"{least}; cut larger patches or set kernel_size of network_def"
            )
    logger.info("checked %d patches", len(cases))


def class_weights(data: Sequence[Mapping[str, Any]], classes: int) -> Tensor:
    r"""Return weights with which all classes count the same in the loss.

    .. math:: w_k = \frac{N}{K\,N_k}

    for N cases of which N_k are of class k, and K classes; the mean weight of a case is one.

    Args:
        data: cases with the index of their class as "label".
        classes: number of classes K.

    Shape:
        ``(K,)``.

    Raises:
        ValueError: if a class has no case.

    Example:
        >>> class_weights([{"label": 0}, {"label": 0}, {"label": 0}, {"label": 1}], 2)
        tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(torch.tensor([int(case["label"]) for case in data]), minlength=classes)
    if len(counts) > classes or not counts.all():
        raise ValueError(
            f"the {len(data)} training cases have {counts.tolist()} cases per class where each of {classes} classes "
            "needs one or more; add cases or correct label_names"
        )
    return len(data) / (classes * counts)
