"""Images and masks as arrays in RAS order, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from custom_networks.workflow.data.cases import SUFFIXES
from custom_networks.workflow.data.formats import dicom, metaimage, nifti, nrrd

AROUND_MM = 25
"""What is shown around the structures, in mm."""


@dataclass(frozen=True)
class Structure:
    """What a mask holds.

    Args:
        name: its name.
        values: its values in the mask.
        colour: ``#rrggbb``.
    """

    name: str
    values: tuple[int, ...]
    colour: str


@dataclass(frozen=True)
class Scan:
    """An image with its label maps, in RAS order.

    Args:
        image: ``(x, y, z)``, the first channel.
        masks: label maps of the same shape by name, such as "prediction".
        affine: voxels to mm.
    """

    image: np.ndarray
    masks: Mapping[str, np.ndarray]
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size in mm, one entry per axis."""
        sizes: np.ndarray = np.linalg.norm(self.affine[:3, :3], axis=0)
        return sizes

    @property
    def foreground(self) -> np.ndarray:
        """Where any mask holds anything."""
        found: np.ndarray = np.any([mask != 0 for mask in self.masks.values()], axis=0)
        return found

    def found(self, structure: Structure) -> np.ndarray:
        """Return where any mask holds a structure.

        Args:
            structure: the structure.
        """
        found: np.ndarray = np.any([np.isin(mask, structure.values) for mask in self.masks.values()], axis=0)
        return found


def is_dicom(files: Sequence[str | Path]) -> bool:
    """Return whether an image is a DICOM series, whose file and folder names may be those of a patient.

    Args:
        files: its files, which need not exist any more.

    Example:
        >>> is_dicom(["data/a.nii.gz"]), is_dicom(["data/DOE_JOHN"])
        (False, True)
    """
    return not all(str(file).lower().endswith(SUFFIXES) for file in files)


def read_scan(files: Sequence[str | Path], masks: Mapping[str, Path], series: str | None = None) -> Scan:
    """Read an image and its masks.

    Args:
        files: files of the image, one per channel.
        masks: label maps on the grid of the image.
        series: SeriesInstanceUID to take from a folder of several.

    Raises:
        FileNotFoundError: if one does not exist.
        ValueError: if one cannot be read, or a mask has another shape than the image.
    """
    for file in (files[0], *masks.values()):
        if not Path(file).exists():
            raise FileNotFoundError(f"there is no file {file}; restore it and write the page again")
    voxels, affine = _read(Path(files[0]), series)
    labels = {name: _read(path, None)[0] for name, path in masks.items()}
    for name, label in labels.items():
        if label.shape != voxels.shape:
            raise ValueError(
                f"the {name} {masks[name]} has shape {label.shape} but the image {voxels.shape}; write it anew"
            )
    image, turned = _in_ras(voxels, affine)
    return Scan(image, {name: _in_ras(label, affine)[0] for name, label in labels.items()}, turned)


def _read(file: Path, series: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the first channel and the affine."""
    for module in (nifti, nrrd, metaimage):
        if file.name.lower().endswith(module.SUFFIXES):
            return module.read_voxels(file)[0], module.read_header(file).affine
    return dicom.read_voxels(file, series)[0], dicom.read_header(file, series).affine


def _in_ras(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    orientation = nib.io_orientation(affine)
    turned = affine @ nib.orientations.inv_ornt_aff(orientation, voxels.shape)
    return nib.apply_orientation(voxels, orientation), turned


def around_structures(scan: Scan, around_mm: float = AROUND_MM) -> Scan:
    """Return the part of a scan around its structures; all of it where there are none.

    Args:
        scan: the image and its masks.
        around_mm: how far around.
    """
    found = scan.foreground
    if not found.any():
        return scan
    margin = np.ceil(around_mm / scan.spacing).astype(int)
    where: Any = [np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    first = [max(0, int(part[0]) - extra) for part, extra in zip(where, margin, strict=True)]
    last = [int(part[-1]) + extra + 1 for part, extra in zip(where, margin, strict=True)]
    window = tuple(slice(low, high) for low, high in zip(first, last, strict=True))
    shifted = scan.affine.copy()
    shifted[:3, 3] = nib.affines.apply_affine(scan.affine, first)
    return Scan(scan.image[window], {name: mask[window] for name, mask in scan.masks.items()}, shifted)


def grey_levels(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8: black at the 1st percentile of its finite voxels, white at the 99.5th.

    Args:
        image: intensities.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    # of the same type, or the whole image is calculated in twice as many bytes
    low, high = np.percentile(values, (1, 99.5)).astype(np.float32)
    if high <= low:  # a mask, say, or a picture of nothing
        low, high = float(values.min()), max(float(values.max()), float(values.min()) + 1)
    levels: np.ndarray = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return levels
