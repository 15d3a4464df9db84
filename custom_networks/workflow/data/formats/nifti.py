"""NIfTI files: one affine for all, that of nibabel, and what the header says twice or not at all."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import IOBase
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger
from nibabel.volumeutils import apply_read_scaling, array_from_file

from custom_networks.workflow.data.formats.grid import (
    GZIP_RATIO,
    PLAIN_RATIO,
    Grid,
    check_grid,
    check_size,
    farthest_apart,
    in_short,
    is_singular,
    one_sentence,
)

SUFFIXES = (".nii.gz", ".nii")
GZIP_MAGIC = b"\x1f\x8b"
# by how much, in mm, two forms may place a voxel apart without a word
TOLERANCE = 1e-3
# NIfTI-1 and NIfTI-2 begin with the length of their header
HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
UNITS = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
Header = nib.Nifti1Header
# begins the description in the header of a mask; the checksum of its voxels follows
MASK = "custom_networks mask"


def read_header(path: Path) -> Grid:
    """Return the grid of a file.

    The affine is the sform if its code is set and it is a valid affine, else the qform, else the voxel sizes, as
    nibabel has it; micrometres and metres become millimetres. A fourth axis holds the channels.

    Args:
        path: the file, of which no voxel is read.

    Raises:
        ValueError: if it cannot be read, holds no real numbers, has other than three axes and channels, or does not
            place its voxels.
    """
    with one_sentence(path, "NIfTI"), _opened(path) as file:
        header = _checked(path, file)
        return _grid(path, header)


def read_voxels(path: Path) -> np.ndarray:
    """Return the voxels ``(C, *S)``: integers as they are stored, scaled ones in float64.

    Args:
        path: the file.

    Raises:
        ValueError: as :func:`read_header`, and if voxels are missing or the compressed data are damaged.
    """
    with one_sentence(path, "NIfTI"), _opened(path) as file:
        header = _checked(path, file)
        grid = _grid(path, header)
        shape = header.get_data_shape()
        try:
            voxels = array_from_file(shape, header.get_data_dtype(), file, header.get_data_offset(), mmap=False)
            while file.read(1 << 16):  # to the checksum at the end
                pass
        except (zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged: {in_short(error)}; copy it again") from error
        except OSError as error:
            if error.strerror:
                raise
            raise ValueError(f"{path} is truncated: {in_short(error)}; copy it again") from error
        slope, intercept = header.get_slope_inter()
        if slope is not None:
            voxels = apply_read_scaling(voxels, np.float64(slope), np.float64(intercept))
    return np.moveaxis(voxels.reshape(*shape[:3], -1), -1, 0).reshape(grid.channels, *grid.shape)


def header_of_mask(path: Path) -> Header:
    """Return the header that the mask of an image has: the image's own, but for what describes its intensities.

    Where nibabel would not read the affine that :func:`read_header` takes, it stands in both forms.

    Args:
        path: the image.

    Raises:
        ValueError: if it cannot be read.
    """
    with one_sentence(path, "NIfTI"), _opened(path) as file:
        header = _checked(path, file)
        affine = _affine(header, header.get_data_shape())[0]
        with np.errstate(all="ignore"):
            same = np.allclose(header.get_sform() if header["sform_code"] > 0 else affine, affine, rtol=0, atol=0)
        if not same:
            header.set_sform(affine, code=int(header["qform_code"]))
        for field in ("cal_min", "cal_max", "intent_code", "intent_p1", "intent_p2", "intent_p3"):
            header[field] = 0
        for field in ("intent_name", "aux_file"):
            header[field] = b""
        return header


def description(path: Path) -> str:
    """Return the description in the header of a file, nothing if it is no NIfTI file that can be read.

    Args:
        path: the file.
    """
    try:
        with _opened(path) as file:
            return bytes(_checked(path, file)["descrip"]).rstrip(b"\0").decode("latin-1")
    except Exception:  # what is wrong with it is said where it is read
        return ""


@contextmanager
def _opened(path: Path) -> Iterator[IOBase]:
    with path.open("rb") as file:
        begin = file.read(4)
    if not begin:
        raise ValueError(f"{path} is empty; copy it again")
    compressed, named = begin.startswith(GZIP_MAGIC), path.name.lower().endswith(".gz")
    if named and not compressed:
        advice = "name it .nii" if _lengths(begin) else "replace it"
        raise ValueError(f"{path} is no gzip file though its name ends in .gz; {advice}")
    if compressed and not named:
        raise ValueError(f"{path} is compressed with gzip; name it .nii.gz")
    with gzip.open(path) if compressed else path.open("rb") as opened:
        yield opened


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep nibabel from logging what it corrects: what counts is said in our words."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _lengths(begin: bytes) -> set[int]:
    """Return the length of a header that the first four bytes of a file give, nothing if they give none."""
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    return {int.from_bytes(begin[:4], order) for order in orders} & set(HEADERS)


def _checked(path: Path, file: IOBase) -> Header:
    """Read the header and refuse what it claims of the voxels."""
    begin = file.read(4)
    sizes = _lengths(begin)
    if not sizes:
        raise ValueError(f"{path} is no NIfTI file; convert it to NIfTI, or replace it")
    file.seek(0)
    with _quiet():
        header = HEADERS[sizes.pop()].from_fileobj(file)
    dtype = header.get_data_dtype()
    if dtype.kind not in "biuf":
        kind = {"V": "colours", "c": "complex numbers"}.get(dtype.kind, str(dtype))
        raise ValueError(f"{path} holds {kind}, not one real number per voxel; convert it")
    shape = header.get_data_shape()
    if any(n < 1 for n in shape):
        raise ValueError(f"{path} has an axis without voxels, shape {shape}; replace it")
    if len(shape) < 3:
        raise ValueError(f"{path} has {len(shape)} axes, shape {shape}; give a 3D image")
    if any(n > 1 for n in shape[4:]):
        raise ValueError(
            f"{path} holds a vector per voxel, shape {shape} with the intent {header.get_intent()[0]!r}; give an image "
            "of one value per voxel, or its channels along a fourth axis"
        )
    file_size = path.stat().st_size
    compressed = path.name.lower().endswith(".gz")
    stored = file_size if compressed else file_size - int(header.get_data_offset())
    check_size(path, shape, dtype.itemsize, stored=stored, ratio=GZIP_RATIO if compressed else PLAIN_RATIO)
    return header


def _grid(path: Path, header: Header) -> Grid:
    shape = header.get_data_shape()
    unit = header.get_xyzt_units()[0]
    affine, notes = _affine(header, shape)
    scale = UNITS.get(unit, 1.0)
    if scale != 1:
        affine[:3] *= scale
        notes.append(f"is in units of one {unit}, read as millimetres")
    channels = int(np.prod(shape[3:], dtype=int))
    return check_grid(path, Grid(tuple(int(n) for n in shape[:3]), channels, affine, tuple(notes)))


def _affine(header: Header, shape: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """Return the affine in the units of the header, and what there is to say about it."""
    codes = {form: int(header[f"{form}_code"]) for form in ("sform", "qform")}
    sform = _valid(header.get_sform) if codes["sform"] > 0 else None
    qform = _valid(header.get_qform) if codes["qform"] > 0 else None
    if sform is not None:
        return sform, _disagreement(header, shape, sform, qform)
    broken = "has a broken sform; its {} is taken"
    if qform is not None:
        return qform, [broken.format("qform")] if codes["sform"] > 0 else []
    if any(code > 0 for code in codes.values()):
        return np.zeros((4, 4)), []  # refused as singular
    return np.asarray(header.get_base_affine(), dtype=float), [
        "has neither sform nor qform: left and right are not known, and nibabel's guess is taken, the first axis to "
        "the left"
    ]


def _valid(form: Callable[[], Any]) -> np.ndarray | None:
    try:
        affine = np.asarray(form(), dtype=float)
    except Exception:  # a quaternion that is none: nibabel raises several kinds
        return None
    return None if is_singular(affine) else affine


def _disagreement(header: Header, shape: tuple[int, ...], sform: np.ndarray, qform: np.ndarray | None) -> list[str]:
    if qform is not None:
        apart = farthest_apart(sform, qform, shape)
        if apart <= TOLERANCE:
            return []
        return [f"has sform and qform that place voxels up to {apart:.3g} mm apart; the sform is taken"]
    sizes, zooms = np.linalg.norm(sform[:3, :3], axis=0), np.asarray(header.get_zooms()[:3], dtype=float)
    if np.abs(sizes - zooms).max() <= TOLERANCE:
        return []
    words = [" x ".join(f"{size:.4g}" for size in own) for own in (zooms, sizes)]
    return [f"has voxels of {words[0]} mm by its pixdim and {words[1]} mm by its sform; the sform is taken"]
