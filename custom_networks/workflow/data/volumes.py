"""The one reader of image files: what adapt, check and the memory bill believe of a header is what a run gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader, MetaTensor
from monai.utils import MetaKeys, SpaceKeys

from custom_networks.workflow.data.cases import SUFFIXES, Files, files_of
from custom_networks.workflow.data.formats import dicom, metaimage, nifti, nrrd
from custom_networks.workflow.data.formats.grid import Grid, farthest_apart

AFFINE_TOLERANCE = 1e-2
"""By how much files that belong together may place a voxel apart, in mm."""

FORMATS: tuple[ModuleType, ...] = (nifti, nrrd, metaimage)
# by how much a label may miss an integer, as a scaled one does by rounding
LABEL_TOLERANCE = 1e-3

NOTES = "notes"
"""Key under which the notes of :class:`Grid` stand in the meta data of a volume."""


def read_grid(files: Files, series: str | None = None) -> Grid:
    """Return the grid of an image by its headers.

    Args:
        files: a file, or the folder of a DICOM series; or several, one for each channel, which must have one grid.
        series: SeriesInstanceUID to take from a folder of several.

    Raises:
        FileNotFoundError: if a file is absent.
        ValueError: if one cannot be read, or they do not lie on one grid.
    """
    paths = files_of(files)
    grids = [_grid(path, series) for path in paths]
    for path, grid in zip(paths[1:], grids[1:], strict=True):
        _check_same_grid(path, grid, paths[0], grids[0])
    if len(grids) == 1:
        return grids[0]
    notes = tuple(dict.fromkeys(note for grid in grids for note in grid.notes))
    return grids[0]._replace(channels=sum(grid.channels for grid in grids), notes=notes)


def read_voxels(files: Files, series: str | None = None) -> np.ndarray:
    """Return the voxels of an image ``(C, *S)`` in the type of the file.

    Args:
        files: see :func:`read_grid`; the channels of several files are put one after the other.
        series: see the same.

    Raises:
        FileNotFoundError: if a file is absent.
        ValueError: if one cannot be read.
    """
    volumes = []
    for path in files_of(files):
        module = _format_of(path)
        volumes.append(dicom.read_voxels(path, series) if module is dicom else module.read_voxels(path))
    return volumes[0] if len(volumes) == 1 else np.concatenate(volumes)


def _grid(path: Path, series: str | None) -> Grid:
    module = _format_of(path)
    grid: Grid = dicom.read_header(path, series) if module is dicom else module.read_header(path)
    return grid


def _format_of(path: Path) -> ModuleType:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; correct the list of cases or restore the file")
    if path.is_dir():
        return dicom
    name = path.name.lower()
    for module in FORMATS:
        if name.endswith(module.SUFFIXES):
            return module
    if dicom.is_dicom(path):
        return dicom
    raise ValueError(
        f"{path} is none of {', '.join(SUFFIXES)} and no DICOM; convert it, or give the folder of a DICOM series"
    )


def _check_same_grid(path: Path, grid: Grid, first_path: Path, first: Grid) -> None:
    if grid.shape != first.shape:
        raise ValueError(
            f"{path} has shape {grid.shape} but {first_path}, another channel of the image, {first.shape}; resample one"
        )
    apart = farthest_apart(grid.affine, first.affine, first.shape)
    if apart > AFFINE_TOLERANCE:
        raise ValueError(
            f"{path} has another affine than {first_path}, another channel of the image, by up to {apart:.3g} mm; "
            "resample one to the other"
        )


def as_integers(path: str | Path, voxels: np.ndarray) -> np.ndarray:
    """Return label values as integers, none of which has passed through float32.

    Args:
        path: the file, for the message.
        voxels: as stored; what a slope has moved off an integer by up to a thousandth is rounded.

    Returns:
        int32, or int64 where that is needed.

    Raises:
        ValueError: if a value is no integer.
    """
    if voxels.dtype.kind == "f":
        rounded = np.rint(voxels)
        with np.errstate(invalid="ignore"):
            near = np.abs(voxels - rounded) <= LABEL_TOLERANCE  # not so for NaN and infinity
        if not near.all():
            raise ValueError(
                f"{path} holds the label value {voxels[~near].min():g}, which is no integer; correct the label, or "
                "resample it with nearest neighbours"
            )
        voxels = rounded
    if not voxels.size:
        return voxels.astype(np.int32)
    low, high = voxels.min(), voxels.max()
    for dtype in (np.int32, np.int64):
        limits = np.iinfo(dtype)
        if low >= limits.min and high <= limits.max:
            return np.ascontiguousarray(voxels, dtype=dtype)
    raise ValueError(f"{path} holds the label value {high:g}, beyond 64 bits; correct the label")


class VolumeReader(ImageReader):
    """The reader that every config gives to MONAI's ``LoadImaged``.

    NIfTI, NRRD, MetaImage and DICOM series with the geometry of
    :mod:`custom_networks.workflow.data.formats`, channels first.

    What is set as ``observe`` gets files, voxels and meta data of every volume before any transform does.

    Args:
        labels: whether the files hold labels, which are read as integers end to end; give ``LoadImaged`` no dtype then.
        series: SeriesInstanceUID to take from a DICOM folder of several.
    """

    def __init__(self, labels: bool = False, series: str | None = None) -> None:
        super().__init__()
        self.labels, self.series = labels, series
        self.observe: Callable[[list[Path], np.ndarray, dict[str, Any]], None] | None = None

    def verify_suffix(self, filename: Any) -> bool:
        """Return that any file is for this reader, which says what is wrong with one.

        Args:
            filename: the file.
        """
        return True

    def read(self, data: Any, **kwargs: Any) -> list[Path]:
        """Return the paths: MONAI drops the sentence of what is raised here, not of what ``get_data`` raises.

        Args:
            data: a file or several.
            **kwargs: none is used.
        """
        return files_of(data)

    def get_data(self, img: list[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Return voxels ``(C, *S)`` and what MONAI keeps beside them.

        Args:
            img: the files.
        """
        grid = read_grid(img, self.series)
        voxels = read_voxels(img, self.series)
        with np.errstate(over="ignore"):  # what float32 does not hold is infinite, and refused as such
            voxels = as_integers(img[0], voxels) if self.labels else np.ascontiguousarray(voxels, dtype=np.float32)
        meta = {
            NOTES: grid.notes,
            MetaKeys.AFFINE: grid.affine,
            MetaKeys.ORIGINAL_AFFINE: grid.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(grid.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
            MetaKeys.SPACE: SpaceKeys.RAS,
        }
        if self.observe is not None:
            self.observe(img, voxels, meta)
        return voxels, meta


def read_volume(files: Files, *, labels: bool = False, series: str | None = None) -> MetaTensor:
    """Read an image, or a label, as the configs do.

    Args:
        files: see :func:`read_grid`.
        labels: whether these are label values.
        series: see :func:`read_grid`.

    Returns:
        ``(C, *S)``, float32, labels int32 or int64; its ``meta`` holds the notes of its header under ``NOTES``.

    Raises:
        FileNotFoundError: if a file is absent.
        ValueError: if one cannot be read, in one sentence with the true cause.
    """
    voxels, meta = VolumeReader(labels, series).get_data(files_of(files))
    volume = MetaTensor.ensure_torch_and_prune_meta(torch.from_numpy(voxels), meta)
    return volume
