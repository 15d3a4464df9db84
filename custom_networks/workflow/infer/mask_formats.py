"""The formats of masks besides NIfTI, each by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from custom_networks.workflow.infer import dicom_seg, nrrd_mask
from custom_networks.workflow.infer.dicom_seg import MadeBy, check_dicom_seg, write_dicom_seg
from custom_networks.workflow.infer.masks import check_replaceable, write_mask
from custom_networks.workflow.infer.nrrd_mask import check_nrrd_replaceable, write_nrrd_mask
from custom_networks.workflow.infer.structures import Structure


class Mask(NamedTuple):
    """A mask and what the formats keep of it.

    Args:
        voxels: whole numbers ``(*S)`` on the grid of the image.
        affine: voxels to mm, RAS.
        image: the file of the image, or the folder of its series; the first of several channels.
        series: SeriesInstanceUID, needed where the folder holds several.
        structures: name, values and codes of each.
        made_by: what the mask was made by.
    """

    voxels: np.ndarray
    affine: np.ndarray
    image: Path
    series: str | None
    structures: Sequence[Structure]
    made_by: MadeBy


class Format(NamedTuple):
    """One format.

    Args:
        suffix: of its files.
        write: writes a mask to a file.
        check: refuses, before anything is computed, a file to write or an image.
    """

    suffix: str
    write: Callable[[Path, Mask], None]
    check: Callable[[Path, Path], None]


def _write_nifti(file: Path, mask: Mask) -> None:
    check_replaceable(file)
    write_mask(file, mask.voxels, mask.affine, mask.image)


FORMATS = {
    "nifti": Format(
        ".nii.gz",
        _write_nifti,
        lambda file, image: check_replaceable(file),
    ),
    "nrrd": Format(
        nrrd_mask.SUFFIX,
        lambda file, mask: write_nrrd_mask(file, mask.voxels, mask.affine, mask.structures),
        lambda file, image: check_nrrd_replaceable(file),
    ),
    "dicom-seg": Format(
        dicom_seg.SUFFIX,
        lambda file, mask: write_dicom_seg(file, mask.voxels, mask.image, mask.series, mask.structures, mask.made_by),
        check_dicom_seg,
    ),
}


def save_mask_as(name: str, target: Path, mask: Mask) -> Path:
    """Write a mask in a format, and return its file.

    Args:
        name: of the format, a key of :data:`FORMATS`.
        target: the file without its suffix.
        mask: the mask.

    Raises:
        ValueError: if the file exists and is more than what this program has written, or the format cannot hold a mask
            of this image.
    """
    kind = format_of(name)
    file = target.with_name(f"{target.name}{kind.suffix}")
    kind.write(file, mask)
    return file


def check_mask_as(name: str, target: Path, image: Path) -> None:
    """Refuse, before anything is computed, what :func:`save_mask_as` would refuse after it.

    Args:
        name: of the format, a key of :data:`FORMATS`.
        target: the file without its suffix.
        image: the file of the image, or the folder of its series.

    Raises:
        ValueError: if the file exists and is more than what this program has written, or the format cannot hold a mask
            of this image.
    """
    kind = format_of(name)
    kind.check(target.with_name(f"{target.name}{kind.suffix}"), image)


def format_of(name: str) -> Format:
    """Return a format.

    Args:
        name: of it.

    Raises:
        ValueError: if there is none of this name.

    Example:
        >>> format_of("nrrd").suffix
        '.seg.nrrd'
    """
    if name not in FORMATS:
        raise ValueError(f"there is no output format {name!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]
