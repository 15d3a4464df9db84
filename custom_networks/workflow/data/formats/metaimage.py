"""MetaImage files (.mha, and .mhd beside its .raw), read with SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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
MOST_LINES, LOCAL = 200, "LOCAL"


def read_header(path: Path) -> Grid:
    """Return the grid of a file.

    Args:
        path: the file, of which no voxel is read.

    Raises:
        ValueError: if it cannot be read, is not 3D, or does not place its voxels, or SimpleITK is missing.
    """
    with one_sentence(path, "MetaImage"):
        return _grid(path, _reader(path))


def read_voxels(path: Path) -> np.ndarray:
    """Return the voxels ``(C, *S)`` as they are stored.

    Args:
        path: the file.

    Raises:
        ValueError: as :func:`read_header`, and if voxels are missing.
    """
    with one_sentence(path, "MetaImage"):
        import SimpleITK

        reader = _reader(path)
        grid = _grid(path, reader)
        voxels = SimpleITK.GetArrayFromImage(reader.Execute())
        if reader.GetNumberOfComponents() > 1:
            voxels = np.moveaxis(voxels, -1, 0)
        # the last axis of numpy is the first of ITK
        return voxels.reshape(grid.channels, *grid.shape[::-1]).transpose(0, 3, 2, 1)


def _reader(path: Path) -> Any:
    """Read the header and refuse what it claims of the voxels."""
    try:
        import SimpleITK
    except ImportError as error:
        raise ValueError(f"{path} needs SimpleITK to be read: pip install SimpleITK") from error
    fields, begin = _fields(path)
    data = fields["elementdatafile"]
    source = path if data.upper() == LOCAL else path.parent / data
    if not source.is_file():
        raise ValueError(f"{path} has its voxels in {source}, which is no file; put it there or save one .mha file")
    spacing = fields.get("elementspacing", "1").split()
    if any(not float(size) > 0 for size in spacing):  # ITK takes 1 instead, without a word
        raise ValueError(f"{path} has the ElementSpacing {' '.join(spacing)}; correct the header")
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in kind or "label" in kind:
        raise ValueError(f"{path} holds {kind}s, not one real number per voxel; convert it")
    sizes = [*reader.GetSize(), reader.GetNumberOfComponents()]
    bits = next((bits for bits in (8, 16, 32, 64) if f"{bits}-bit" in kind), 8)
    compressed = fields.get("compresseddata", "").lower() == "true"
    stored = source.stat().st_size - (begin if source == path else 0)
    check_size(path, sizes, bits // 8, stored=stored, ratio=GZIP_RATIO if compressed else PLAIN_RATIO)
    return reader


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of the header and its length; it ends with the line that names the data."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(MOST_LINES):
            key, *value = re.split("[=:]", file.readline(4096).decode("latin-1"), maxsplit=1)
            fields[key.strip().lower()] = "".join(value).strip()
            if key.strip().lower() == "elementdatafile":
                return fields, file.tell()
    raise ValueError(f"{path} is no MetaImage file; convert it, or replace it")


def _grid(path: Path, reader: Any) -> Grid:
    sizes, dimensions = reader.GetSize(), reader.GetDimension()
    if dimensions not in (3, 4) or (dimensions == 4 and reader.GetNumberOfComponents() > 1 and sizes[3] > 1):
        raise ValueError(f"{path} has {dimensions} axes of {sizes} voxels; give a 3D image, channels as components")
    direction = np.asarray(reader.GetDirection(), dtype=float).reshape(dimensions, dimensions)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = RAS @ direction @ np.diag(reader.GetSpacing()[:3])
    affine[:3, 3] = RAS @ np.asarray(reader.GetOrigin()[:3], dtype=float)
    channels = int(reader.GetNumberOfComponents() * (sizes[3] if dimensions == 4 else 1))
    return check_grid(path, Grid(tuple(int(n) for n in sizes[:3]), channels, affine))
