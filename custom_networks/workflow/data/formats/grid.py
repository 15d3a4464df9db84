"""The voxels of an image and where they lie, and what every format refuses in the same words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]
# of the determinant of the axes, scaled to length one: two axes within 0.006 degrees of each other, or a flat voxel
LEAST_DETERMINANT = 1e-4
# voxels beyond are a mistake of the header: no scanner images a body at one metre, and no light at 1e-9 m
SMALLEST, LARGEST = 1e-6, 1e3
FARTHEST = 1e6
# what deflate can do at most, and a bit
GZIP_RATIO = 1100
PLAIN_RATIO = 1
MILLIMETRES = {"nm": 1e-6, "um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0}


class Grid(NamedTuple):
    """The voxels of an image and where they lie.

    Args:
        shape: voxels per axis as stored.
        channels: number of channels.
        affine: voxels to mm, RAS.
        notes: what a header leaves open or says twice, and how that was decided: sentences without their subject,
            which is the file.
    """

    shape: Shape
    channels: int
    affine: np.ndarray
    notes: tuple[str, ...] = ()


def farthest_apart(affine: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """Return how far apart two affines place a voxel, in their unit: the largest difference at the corners.

    Args:
        affine: voxels to mm.
        other: the same.
        shape: voxels per axis.

    Example:
        >>> farthest_apart(np.eye(4), np.diag([1.0, 1.0, 1.01, 1.0]), (5, 5, 101))
        1.0
    """
    corners = np.array([[*corner, 1.0] for corner in product(*((0, n - 1) for n in shape[:3]))])
    with np.errstate(all="ignore"):
        return round(float(np.abs(corners @ (np.asarray(affine) - np.asarray(other)).T).max()), 9)


def is_singular(affine: np.ndarray) -> bool:
    """Return whether an affine gives no volume to a voxel, whatever its size, or holds NaN or infinity.

    The determinant of the three axes, each scaled to length one, is below 1e-4.

    Args:
        affine: voxels to mm.

    Example:
        >>> is_singular(np.diag([5e-4, 5e-4, 5e-4, 1])), is_singular(np.diag([1.0, 1.0, 0.0, 1.0]))
        (False, True)
    """
    axes = np.asarray(affine, dtype=float)[:3, :3]
    with np.errstate(all="ignore"):
        sizes = np.linalg.norm(axes, axis=0)
        if not np.isfinite(affine).all() or not np.isfinite(sizes).all() or not sizes.all():
            return True
        return abs(float(np.linalg.det(axes / sizes))) < LEAST_DETERMINANT


def affine_problems(affine: np.ndarray) -> list[str]:
    """Return why an affine cannot place voxels of a body, in sentences without their subject.

    Args:
        affine: voxels to mm.
    """
    if is_singular(affine):
        return ["has a singular affine; correct the header"]
    sizes = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    if sizes.min() < SMALLEST or sizes.max() > LARGEST:
        words = " x ".join(f"{size:.3g}" for size in sizes)
        return [f"has voxels of {words} mm, which no scanner makes; correct the header or its units"]
    origin = float(np.abs(np.asarray(affine, dtype=float)[:3, 3]).max())
    if origin > FARTHEST:
        return [f"has its first voxel {origin:.3g} mm from the origin; correct the header or its units"]
    return []


def check_grid(path: str | Path, grid: Grid) -> Grid:
    """Return the grid, or refuse one that holds no voxel or does not place them.

    Args:
        path: the file, for the message.
        grid: what its header says.

    Raises:
        ValueError: if an axis has no voxel, there is no channel, or the affine is singular.
    """
    if any(n < 1 for n in grid.shape) or grid.channels < 1:
        raise ValueError(f"{path} has an axis without voxels, shape {grid.shape}, {grid.channels} channels; replace it")
    if problems := affine_problems(grid.affine):
        raise ValueError(f"{path} {problems[0]}")
    return grid


def check_size(path: str | Path, sizes: Sequence[int], itemsize: int, *, stored: int, ratio: int) -> None:
    """Refuse a header that claims more voxels than its file can hold, before memory is taken for them.

    Args:
        path: the file, for the message.
        sizes: number of values per axis.
        itemsize: bytes of a value.
        stored: bytes of the file that can hold values.
        ratio: largest factor of the compression, 1 if there is none.

    Raises:
        ValueError: if it does.
    """
    claimed = math.prod(int(n) for n in sizes) * itemsize
    if claimed <= stored * ratio:
        return
    words = " x ".join(str(int(n)) for n in sizes)
    if ratio == PLAIN_RATIO:
        raise ValueError(
            f"{path} is truncated: its header promises {claimed} bytes of voxels ({words}) and {max(stored, 0)} are "
            "there; copy it again"
        )
    raise ValueError(
        f"{path} claims {words} voxels, more than a file of its size can hold; it is truncated or its header damaged: "
        "copy it again"
    )


@contextmanager
def one_sentence(path: str | Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into one sentence with the true cause.

    Args:
        path: the file.
        what: its format, in words.

    Raises:
        ValueError: in place of any exception but those of this package, which are sentences already, and absent files.
    """
    try:
        yield
    except EOFError as error:
        raise ValueError(f"{path} is truncated: it ends before its voxels do; copy it again") from error
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        raise ValueError(f"{path} cannot be read as {what} ({in_short(error)}); replace it") from error
    except Exception as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} cannot be read as {what} ({in_short(error)}); replace it") from error


def in_short(error: BaseException) -> str:
    """Return the words of an exception in one line.

    Args:
        error: the exception.
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
