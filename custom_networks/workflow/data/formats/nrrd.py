"""NRRD files: every spelling of the space, channels first or last, and headers that leave things out."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import nrrd
import numpy as np

from custom_networks.workflow.data.formats.grid import (
    GZIP_RATIO,
    MILLIMETRES,
    PLAIN_RATIO,
    Grid,
    check_grid,
    check_size,
    one_sentence,
)

SUFFIXES = (".nrrd",)
# signs that turn the first two axes of a space to those of RAS; the third is up in all
SPACES = {
    "right-anterior-superior": (1, 1),
    "left-anterior-superior": (-1, 1),
    "left-posterior-superior": (-1, -1),
}
ABBREVIATIONS = {"".join(word[0] for word in name.split("-")): name for name in SPACES}
SPATIAL = ("domain", "space")
CHANNELS = ("list", "vector", "point", "time", "scalar", "stub", "none", "???")
# a bzip2 block of 45 bytes can hold 900 kB
RATIOS = {"raw": PLAIN_RATIO, "gzip": GZIP_RATIO, "gz": GZIP_RATIO, "bzip2": 20_000, "bz2": 20_000}
COMPRESSED = ("gzip", "gz", "bzip2", "bz2")
LONGEST_LINE = 1 << 16
MAGIC = b"NRRD"
# the key of a mask, whose value is the checksum of its voxels
MASK = "custom_networks_mask"
TEXT = ("ascii", "text", "txt")


class _Axes(NamedTuple):
    """The spatial axes, and that of the channels, ``None`` if there is none."""

    spatial: list[int]
    channels: int | None


def read_header(path: Path) -> Grid:
    """Return the grid of a file.

    Args:
        path: the file, of which no voxel is read.

    Raises:
        ValueError: if it cannot be read, holds no real numbers, has other than three spatial axes, or does not place
            its voxels.
    """
    with one_sentence(path, "NRRD"), path.open("rb") as file:
        return _grid(path, _checked(path, file))


def read_voxels(path: Path) -> np.ndarray:
    """Return the voxels ``(C, *S)`` as they are stored.

    Args:
        path: the file.

    Raises:
        ValueError: as :func:`read_header`, and if voxels are missing.
    """
    with one_sentence(path, "NRRD"), path.open("rb") as file:
        header = _checked(path, file)
        grid = _grid(path, header)
        axes = _axes(path, header)
        values = int(np.prod(header["sizes"], dtype=object))
        try:
            voxels = nrrd.read_data(header, file, str(path))
        except nrrd.NRRDError as error:
            if "Size of the data" in str(error):
                raise ValueError(
                    f"{path} holds other than the {values} values that its header promises ({error}); it is truncated, "
                    "or compressed in several parts: copy it again, or save it in one"
                ) from error
            raise
        order = [*([] if axes.channels is None else [axes.channels]), *axes.spatial]
        rest = [axis for axis in range(voxels.ndim) if axis not in order]  # of one value each
        return voxels.transpose(*order, *rest).reshape(grid.channels, *grid.shape)


def noted_checksum(path: Path) -> str:
    """Return the checksum that a mask notes of its voxels, nothing where a file is none or cannot be read.

    Args:
        path: the file, of which only the header is read.
    """
    return next((line.partition(":=")[2] for line in _known_lines(path) if line.startswith(f"{MASK}:=")), "")


def voxel_file(path: Path) -> Path:
    """Return the file that holds the voxels: another beside the header, or the file itself, also if it cannot be read.

    Args:
        path: the file, of which only the header is read.
    """
    fields = dict(line.split(":", maxsplit=1) for line in _known_lines(path) if ":" in line)
    data = fields.get("data file", fields.get("datafile"))
    return path if data is None else path.parent / data.strip()


def _known_lines(path: Path) -> list[str]:
    """Return the lines of the header, none where a file has none or cannot be read."""
    try:
        with path.open("rb") as file:
            return _lines(path, file) if file.peek(4).startswith(MAGIC) else []
    except (OSError, ValueError):  # what is wrong with it is said where it is read
        return []


def _checked(path: Path, file: IO[bytes]) -> Mapping[str, Any]:
    """Read the header, leave the file at its voxels, and refuse what the header claims of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = nrrd.read_header(_lines(path, file))
    kind = str(header.get("type", ""))
    if kind == "block":
        raise ValueError(f"{path} holds blocks of bytes, not one real number per voxel; convert it")
    sizes = [int(n) for n in header["sizes"]]
    if len(sizes) != int(header["dimension"]):
        raise ValueError(f"{path} says dimension {header['dimension']} and {len(sizes)} sizes; correct the header")
    if any(n < 1 for n in sizes):
        raise ValueError(f"{path} has an axis without voxels, sizes {sizes}; replace it")
    encoding = str(header.get("encoding", "")).lower()
    if encoding not in RATIOS and encoding not in TEXT:
        raise ValueError(f"{path} has the encoding {encoding!r}, which is not read; save it as raw or gzip")
    stored = os.fstat(file.fileno()).st_size - file.tell()
    detached = header.get("data file", header.get("datafile"))
    if detached is not None:
        other = path.parent / str(detached)
        if not other.is_file():
            raise ValueError(f"{path} has its voxels in {other}, which is no file; put it there or save both in one")
        stored = other.stat().st_size
    skips = [int(header.get(key, header.get(key.replace(" ", ""), 0))) for key in ("line skip", "byte skip")]
    if skips[0] < 0 or skips[1] < -1 or max(skips) > stored * RATIOS.get(encoding, PLAIN_RATIO):
        raise ValueError(f"{path} skips more than it holds (line skip, byte skip {skips}); correct the header")
    if encoding in COMPRESSED and any(skips):
        raise ValueError(f"{path} skips lines or bytes of compressed voxels, which is not read; save it anew")
    if "axis mins" in header and "spacings" not in header and "space directions" not in header:
        raise ValueError(f"{path} says its size by axis mins, which is not read; save it with space directions")
    if encoding in TEXT:  # a digit and a space per value
        check_size(path, sizes, 2, stored=stored + 1, ratio=PLAIN_RATIO)
    else:
        dtype = nrrd.reader._determine_datatype(header)
        taken = max(skips[1], 0) if encoding == "raw" else 0
        check_size(path, sizes, dtype.itemsize, stored=stored - taken, ratio=RATIOS[encoding])
    return header


def _lines(path: Path, file: IO[bytes]) -> list[str]:
    """Return the lines of the header, names of fields in small letters as pynrrd knows them, the file at its voxels."""
    lines: list[str] = []
    for raw in iter(lambda: file.readline(LONGEST_LINE), b""):
        line = raw.decode("ascii", "ignore").rstrip()
        if lines and not line:
            break
        name, colon, value = line.partition(":")
        is_field = colon and not value.startswith("=") and not line.startswith("#")
        lines.append(f"{name.lower()}:{value}" if is_field else line)
    if not lines:
        raise ValueError(f"{path} is empty; copy it again")
    return lines


def _axes(path: Path, header: Mapping[str, Any]) -> _Axes:
    """Tell the spatial axes from those of channels: by the directions, else by the kinds, else by the spacings."""
    sizes = [int(n) for n in header["sizes"]]
    kinds = [str(kind).lower() for kind in header.get("kinds", [])] or ["???"] * len(sizes)
    if len(kinds) != len(sizes):
        raise ValueError(f"{path} has {len(sizes)} axes and {len(kinds)} kinds; correct the header")
    directions, spacings = _directions(path, header), header.get("spacings")
    if directions is not None:
        spatial = [axis for axis, row in enumerate(directions) if row is not None]
    elif any(kind in SPATIAL for kind in kinds):
        spatial = [axis for axis, kind in enumerate(kinds) if kind in SPATIAL]
    elif len(sizes) == 3:
        spatial = [0, 1, 2]
    elif spacings is not None:
        spatial = [axis for axis, size in enumerate(spacings) if math.isfinite(float(size))]
    else:
        spatial = []
    if len(spatial) != 3:
        raise ValueError(
            f"{path} has {len(sizes)} axes of {sizes} values, of which {len(spatial)} are said to be spatial (space "
            "directions, kinds); give a 3D image, its channels along one more axis of kind list"
        )
    others = [axis for axis in range(len(sizes)) if axis not in spatial]
    for axis in others:
        if kinds[axis] not in CHANNELS and sizes[axis] > 1:
            raise ValueError(f"{path} holds a {kinds[axis]} per voxel, not one real number or a list; convert it")
    several = [axis for axis in others if sizes[axis] > 1] or others[:1]
    if len(several) > 1:
        raise ValueError(f"{path} has {len(several)} axes beside the spatial ones; give one axis of channels")
    return _Axes(spatial, several[0] if several else None)


def _directions(path: Path, header: Mapping[str, Any]) -> list[np.ndarray | None] | None:
    """Return the direction of each axis in the first three axes of space, ``None`` for an axis of none."""
    given = header.get("space directions")
    if given is None:
        return None
    rows: list[np.ndarray | None] = []
    for row in given:
        values = None if row is None else np.asarray(row, dtype=float)
        if values is None or np.isnan(values).all() or (values.size == 4 and values[3] != 0):
            rows.append(None)  # of channels, or of time
        elif values.size not in (3, 4):
            raise ValueError(f"{path} has directions in {values.size} dimensions; give a 3D image")
        else:
            rows.append(values[:3])
    if len(rows) != len(header["sizes"]):
        raise ValueError(f"{path} has {len(header['sizes'])} axes and {len(rows)} directions; correct the header")
    return rows


def _grid(path: Path, header: Mapping[str, Any]) -> Grid:
    sizes = [int(n) for n in header["sizes"]]
    axes = _axes(path, header)
    notes: list[str] = []
    affine = np.eye(4)
    directions, spacings = _directions(path, header), header.get("spacings")
    if directions is not None:
        affine[:3, :3] = np.stack([directions[axis] for axis in axes.spatial], axis=1)  # type: ignore[misc]
    elif spacings is not None:
        affine[:3, :3] = np.diag([float(spacings[axis]) for axis in axes.spatial])
        notes.append("has spacings but no directions: its axes are taken as left, posterior, superior")
    else:
        notes.append("says neither directions nor spacings: voxels of 1 mm, along left, posterior, superior, are taken")
    origin = header.get("space origin")
    if origin is not None and np.isfinite(np.asarray(origin, dtype=float)[:3]).all():
        affine[:3, 3] = np.asarray(origin, dtype=float)[:3]
    elif directions is not None:
        notes.append("says no origin: its first voxel is taken to lie at 0, 0, 0")
    affine[:2] *= np.asarray(_signs(path, header, notes, known=directions is None))[:, None]
    affine[:3] *= _unit(path, header, notes)
    channels = 1 if axes.channels is None else sizes[axes.channels]
    return check_grid(path, Grid(tuple(sizes[axis] for axis in axes.spatial), channels, affine, tuple(notes)))


def _signs(path: Path, header: Mapping[str, Any], notes: list[str], *, known: bool) -> tuple[int, int]:
    """Return the signs of the space's first two axes in RAS; left, posterior where it does not say, as ITK takes it."""
    space = str(header.get("space", "")).strip().lower().removesuffix("-time")
    space = ABBREVIATIONS.get(space, ABBREVIATIONS.get(space.removesuffix("t"), space))
    if space in SPACES:
        return SPACES[space]
    if not known:
        says = f"has the space {space}, which" if space else "names no space and"
        notes.append(f"{says} does not say left and right: left-posterior-superior is taken, as ITK does")
    return SPACES["left-posterior-superior"]


def _unit(path: Path, header: Mapping[str, Any], notes: list[str]) -> float:
    """Return the millimetres of a unit of space."""
    given: Sequence[Any] = header.get("space units") or []
    units = {str(unit).strip().strip('"').lower() for unit in given} - {"", "???"}
    units = {unit.replace("µ", "u").replace("μ", "u") for unit in units}
    if not units or units == {"mm"}:
        return 1.0
    if len(units) > 1 or not units <= set(MILLIMETRES):
        raise ValueError(f"{path} has the space units {sorted(units)}; save it in millimetres")
    unit = units.pop()
    notes.append(f"is in {unit}, read as millimetres")
    return MILLIMETRES[unit]
