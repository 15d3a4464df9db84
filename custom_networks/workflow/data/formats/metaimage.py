"""MetaImage files (.mha, and .mhd beside its .raw).

Read here and not by ITK, which ends the process on some damaged headers and takes 1 mm for a spacing of zero.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from custom_networks.workflow.data.formats.grid import (
    GZIP_RATIO,
    PLAIN_RATIO,
    Grid,
    check_grid,
    check_size,
    one_sentence,
)

SUFFIXES = (".mha", ".mhd")
# MetaImage has the axes of DICOM
RAS = np.diag([-1.0, -1.0, 1.0])
MOST_LINES, LONGEST_LINE, LOCAL = 200, 4096, "local"
# a long has four bytes in MetaImage, whatever it has in C
TYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long": "i4",
    "met_ulong": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}


MATRIX, SPACING, ORIGIN = "transformmatrix rotation orientation", "elementspacing elementsize", "offset position origin"
LEFT_OUT = {
    MATRIX: "says no directions: its axes are taken as left, posterior, superior",
    SPACING: "says no voxel size: 1 mm is taken",
    ORIGIN: "says no origin: its first voxel is taken to lie at 0, 0, 0",
}


class _Header(NamedTuple):
    """What the text says.

    Args:
        sizes: voxels per axis, three or four.
        components: values per voxel.
        dtype: of a value.
        compressed: whether the values are.
        source: the file that holds them.
        begin: where they begin in it.
        affine: voxels to mm, RAS.
        notes: what the text leaves out.
    """

    sizes: tuple[int, ...]
    components: int
    dtype: np.dtype
    compressed: bool
    source: Path
    begin: int
    affine: np.ndarray
    notes: tuple[str, ...]


def read_header(path: Path) -> Grid:
    """Return the grid of a file; components, or a fourth axis, are its channels.

    Args:
        path: the file, of which no voxel is read.

    Raises:
        ValueError: if it cannot be read, is not 3D, or does not place its voxels.
    """
    with one_sentence(path, "MetaImage"):
        return _grid(path, _header(path))


def read_voxels(path: Path) -> np.ndarray:
    """Return the voxels ``(C, *S)`` as they are stored.

    Args:
        path: the file.

    Raises:
        ValueError: as :func:`read_header`, and if voxels are missing.
    """
    with one_sentence(path, "MetaImage"):
        header = _header(path)
        grid = _grid(path, header)
        needed = int(np.prod(header.sizes, dtype=object)) * header.components * header.dtype.itemsize
        with header.source.open("rb") as file:
            file.seek(header.begin)
            data = _decompressed(path, file.read(), needed) if header.compressed else file.read(needed)
        if len(data) < needed:
            raise ValueError(
                f"{path} is truncated: its header promises {needed} bytes of voxels and {len(data)} are there; copy "
                "it again"
            )
        # components change fastest, then the first axis
        voxels = np.frombuffer(data, header.dtype).reshape(*header.sizes[::-1], header.components)
        last = len(header.sizes)
        order = (last, *range(last - 3), last - 1, last - 2, last - 3)
        return voxels.transpose(order).reshape(grid.channels, *grid.shape)


def voxel_file(path: Path) -> Path:
    """Return the file that holds the voxels: another beside the header, or the file itself, also if it cannot be read.

    Args:
        path: the file, of which only the header is read.
    """
    try:
        data = _fields(path)[0]["elementdatafile"]
    except (OSError, ValueError):  # what is wrong with it is said where it is read
        return path
    return path if data.lower() == LOCAL else path.parent / data


def _decompressed(path: Path, data: bytes, needed: int) -> bytes:
    """Return the values, and look at the checksum behind them."""
    stream = zlib.decompressobj()
    values = stream.decompress(data, needed)
    stream.decompress(stream.unconsumed_tail, 1)
    if len(values) == needed and not stream.eof:
        raise ValueError(f"{path} is truncated: the checksum of its voxels is absent; copy it again")
    return values


def _header(path: Path) -> _Header:
    fields, end = _fields(path)
    dimensions = int(fields["ndims"])
    sizes = tuple(int(n) for n in fields["dimsize"].split())
    components = int(fields.get("elementnumberofchannels", "1"))
    if len(sizes) != dimensions:
        raise ValueError(f"{path} says NDims {dimensions} and {len(sizes)} sizes; correct the header")
    if dimensions not in (3, 4) or (dimensions == 4 and components > 1 and sizes[3] > 1):
        raise ValueError(f"{path} has {dimensions} axes of {sizes} voxels; give a 3D image, channels as components")
    if any(n < 1 for n in (*sizes, components)):
        raise ValueError(f"{path} has an axis without voxels, {sizes}, {components} components; replace it")
    kind = fields["elementtype"].lower()
    if kind not in TYPES or not _says_yes(fields, "binarydata", default=True):
        raise ValueError(f"{path} holds {fields['elementtype']} or text, not one binary number per voxel; convert it")
    big = any(_says_yes(fields, name) for name in ("binarydatabyteordermsb", "elementbyteordermsb"))
    dtype = np.dtype(TYPES[kind]).newbyteorder(">" if big else "<")
    compressed = _says_yes(fields, "compresseddata")
    data = fields["elementdatafile"]
    source = path if data.lower() == LOCAL else path.parent / data
    if not source.is_file():
        raise ValueError(f"{path} has its voxels in {source}, which is no file; put it there or save one .mha file")
    skipped = int(fields.get("headersize", "0"))
    stored = source.stat().st_size
    if skipped == -1 and not compressed:
        begin = stored - int(np.prod(sizes, dtype=object)) * components * dtype.itemsize
    else:
        begin = skipped if skipped > 0 else end if source == path else 0  # from the start of the file
    ratio = GZIP_RATIO if compressed else PLAIN_RATIO
    check_size(path, (*sizes, components), dtype.itemsize, stored=stored - max(begin, 0), ratio=ratio)
    notes = tuple(note for names, note in LEFT_OUT.items() if set(names.split()).isdisjoint(fields))
    return _Header(sizes, components, dtype, compressed, source, begin, _affine(path, fields, dimensions), notes)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of the header and its length; it ends with the line that names the data."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(MOST_LINES):
            name, *value = re.split("[=:]", file.readline(LONGEST_LINE).decode("latin-1"), maxsplit=1)
            fields[name.strip().lower()] = "".join(value).strip()
            if name.strip().lower() == "elementdatafile":
                if absent := {"ndims", "dimsize", "elementtype"} - set(fields):
                    raise ValueError(f"{path} lacks the fields {', '.join(sorted(absent))}; correct the header")
                return fields, file.tell()
    raise ValueError(f"{path} is no MetaImage file, or has lost its end; convert it, or replace it")


def _says_yes(fields: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    return fields[name].lower() in ("true", "1") if name in fields else default


def _numbers(path: Path, fields: Mapping[str, str], names: str, default: np.ndarray) -> np.ndarray:
    """Return the numbers of the first of these fields that is there."""
    name = next((name for name in names.split() if name in fields), None)
    if name is None:
        return default
    numbers = np.array(fields[name].split(), dtype=float)
    if numbers.shape != default.shape or not np.isfinite(numbers).all():
        raise ValueError(f"{path} has {numbers.size} numbers in its field {name}, {default.size} expected; correct it")
    return numbers


def _affine(path: Path, fields: Mapping[str, str], dimensions: int) -> np.ndarray:
    rows = _numbers(path, fields, MATRIX, np.eye(dimensions).ravel())
    spacing = _numbers(path, fields, SPACING, np.ones(dimensions))[:3]
    origin = _numbers(path, fields, ORIGIN, np.zeros(dimensions))[:3]
    if not (spacing > 0).all():
        raise ValueError(f"{path} has the spacing {spacing.tolist()} mm; correct the header")
    affine = np.eye(4)
    # a row is the direction of an axis
    affine[:3, :3] = RAS @ rows.reshape(dimensions, dimensions)[:3, :3].T @ np.diag(spacing)
    affine[:3, 3] = RAS @ origin
    return affine


def _grid(path: Path, header: _Header) -> Grid:
    channels = header.components * (header.sizes[3] if len(header.sizes) == 4 else 1)
    return check_grid(path, Grid(header.sizes[:3], channels, header.affine, header.notes))
