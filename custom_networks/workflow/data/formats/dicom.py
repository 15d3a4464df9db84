"""DICOM: one series of single images, or one multi-frame file.

Images are ordered by where they lie, never by number or name, and what makes no regular volume is refused.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.workflow.data.formats.dicom_file import cause, is_dicom, opened, plain, pydicom_for
from custom_networks.workflow.data.formats.dicom_grid import measure
from custom_networks.workflow.data.formats.dicom_planes import Plane, planes_of
from custom_networks.workflow.data.formats.dicom_series import Series, headers_of, series_of
from custom_networks.workflow.data.formats.grid import Grid

__all__ = ["Series", "is_dicom", "read_header", "read_planes", "read_voxels", "series_of"]

INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
"""Smallest first."""
DECODERS = "pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


def read_header(path: Path, series: str | None = None) -> Grid:
    """Return the grid of a series, from the headers of its files.

    Args:
        path: the folder whose files are the series, or a file.
        series: SeriesInstanceUID, needed where the folder holds several.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if the files make no volume of grey values on a regular grid.
    """
    return _read(path, series)[1]


def read_planes(path: Path, series: str | None = None) -> list[Plane]:
    """Return the planes of a series in the order of the slices of its voxels.

    Args:
        path: the folder whose files are the series, or a file.
        series: SeriesInstanceUID, needed where the folder holds several.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if the files make no volume of grey values on a regular grid.
    """
    return list(_read(path, series)[0])


def read_voxels(path: Path, series: str | None = None) -> np.ndarray:
    """Return the voxels of a series with each image's own slope and intercept: integers where both leave them so.

    Args:
        path: the folder whose files are the series, or a file.
        series: SeriesInstanceUID, needed where the folder holds several.

    Shape:
        ``(1, columns, rows, slices)``.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if the files make no volume of grey values on a regular grid, or pixels cannot be decoded.
    """
    planes, grid = _read(path, series)
    try:
        # each image is written in one piece
        volume = np.empty(grid.shape[::-1], _type_of(planes))
    except MemoryError as error:
        raise ValueError(f"{path} needs memory for {grid.shape} voxels, more than there is; crop it") from error
    slots: dict[Path, list[int]] = {}
    for slot, plane in enumerate(planes):
        slots.setdefault(plane.file, []).append(slot)
    for file, places in slots.items():
        of_file = [planes[slot] for slot in places]
        for slot, values in zip(places, _values(file, of_file), strict=True):
            _check_range(file, values, volume.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                volume[slot] = values
    return volume.transpose(2, 1, 0)[None]


def _read(path: Path, series: str | None) -> tuple[list[Plane], Grid]:
    pydicom_for(path)
    return _read_state(path, series, _state(path))


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether a file of a series has changed."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    return tuple((file.name, status.st_mtime_ns, status.st_size) for file in files for status in [file.stat()])


@lru_cache(maxsize=8)  # a run asks for the grid, the size and the voxels of a series, of hundreds of headers each
def _read_state(path: Path, series: str | None, state: object) -> tuple[list[Plane], Grid]:
    headers, notes = headers_of(path, series)
    planes, affine, more = measure(path, [plane for header in headers for plane in planes_of(header)])
    shape = planes[0].columns, planes[0].rows, len(planes)
    return planes, Grid(shape, 1, affine, (*notes, *more))


def _type_of(planes: list[Plane]) -> Any:
    limits = [plane.limits for plane in planes if plane.limits is not None]
    if len(limits) == len(planes):
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        for kind in INTEGERS:
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return kind
    return np.float32


def _check_range(file: Path, values: np.ndarray, kind: np.dtype) -> None:
    if kind.kind in "iu" and not np.iinfo(kind).min <= values.min() <= values.max() <= np.iinfo(kind).max:
        raise ValueError(f"{file} holds values beyond its BitsStored; correct its header or convert it")


def _values(file: Path, planes: list[Plane]) -> list[np.ndarray]:
    """Return the values of some planes of a file, rows by columns."""
    data = _decoded(file)
    shape = planes[0].rows, planes[0].columns
    try:
        pixels = data.pixel_array.reshape(-1, *shape)
        if "ModalityLUTSequence" in data:
            apply = pydicom_for(file).pixels.apply_modality_lut
            return [apply(pixels[plane.frame], data) for plane in planes]
        stored = [pixels[plane.frame] for plane in planes]
    except Exception as error:
        raise ValueError(f"{file} holds pixels that cannot be decoded ({cause(error)}); copy it again") from error
    return [_scaled(values, plane) for values, plane in zip(stored, planes, strict=True)]


def _scaled(values: np.ndarray, plane: Plane) -> np.ndarray:
    if plane.slope == 1 and plane.intercept == 0:
        return values
    if plane.limits is not None:
        return values.astype(np.int64) + int(plane.intercept)
    return values * np.float64(plane.slope) + plane.intercept


def _decoded(file: Path) -> Any:
    """Return pydicom's dataset of a file whose pixels it can decode."""
    pydicom = pydicom_for(file)
    with opened(file) as stream:
        try:
            data = pydicom.dcmread(stream, force=True)
            if "TransferSyntaxUID" not in data.file_meta:
                data.file_meta.TransferSyntaxUID = _syntax(*data.original_encoding)
            syntax = data.file_meta.TransferSyntaxUID
            ready = pydicom.pixels.get_decoder(syntax).is_available
        except NotImplementedError as error:
            name = plain(getattr(syntax, "name", syntax), 100)
            raise ValueError(f"{file} has pixels in {name}, which pydicom does not decode; convert it") from error
        except Exception as error:
            raise ValueError(f"{file} cannot be decoded ({cause(error)}); copy it again or convert it") from error
    if not ready:
        raise ValueError(
            f"{file} is compressed as {plain(syntax.name, 100)}, which needs a decoder; pip install {DECODERS}"
        )
    return data


def _syntax(implicit: bool, little: bool) -> str:
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
