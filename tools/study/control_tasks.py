"""Synthetic tasks that tell the reach of a mechanism: what decides a voxel lies near, far, or in no image at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

SIZE = (8, 8, 64)
"""Voxels of a volume; its third axis is the long one."""
CUBE = 4
"""Voxels per axis of a blob, and of a cell of the grid on which blobs and markers stand."""
CELLS = tuple(n // CUBE for n in SIZE)
DEPTH = 2
"""Cells along the long axis of a marker."""
FAR, NEXT = 40, 4
"""Voxels between a marker and the nearest blob: of what lies far, and of what lies near."""
NOISE = 0.25
"""Standard deviation of the noise; what is painted is 1 or -1."""
CORNERS = [(x, y) for x in range(CELLS[0]) for y in range(CELLS[1])]


@dataclass(frozen=True)
class Volumes:
    """Volumes with the two blobs in each whose class is asked for.

    Args:
        images: ``(B, 1, *SIZE)``, float32.
        blobs: ``(B, 2, *SIZE)``, bool: the voxels of each blob. Which of the two is the first is drawn.
        classes: ``(B, 2)``, int64, 0 or 1: the class of each blob.
        markers: ``(B, *SIZE)``, bool: the voxels that decide, none where only the place does.
    """

    images: np.ndarray
    blobs: np.ndarray
    classes: np.ndarray
    markers: np.ndarray


@dataclass(frozen=True)
class Task:
    """A question to ask of every blob.

    Args:
        name: as in commands and tables.
        asks: what decides the class, in words.
        paint: puts markers and blobs of one class into a volume of noise, in place, and returns the classes.
        roll: voxels along the long axis by which a twin is turned round; 0 where it has another marker instead.
        padding_mode: what the convolutions see beyond the border: zeros, or the other side.
    """

    name: str
    asks: str
    paint: Callable[[_Canvas, int], tuple[int, int]]
    roll: int = 0
    padding_mode: Literal["zeros", "circular"] = "zeros"


class _Canvas:
    """One volume, in which cells are painted, and the numbers that are drawn for it."""

    def __init__(self, key: tuple[int, ...]) -> None:
        self.random = np.random.default_rng(key)
        self.image = self.random.normal(0, NOISE, SIZE).astype(np.float32)
        self.blobs = np.zeros((2, *SIZE), bool)
        self.markers = np.zeros(SIZE, bool)

    def mark(self, start: tuple[int, int, int], pattern: np.ndarray) -> None:
        """Add the pattern of a marker, whose first voxel is named."""
        voxels = tuple(slice(a, a + n) for a, n in zip(start, pattern.shape, strict=True))
        self.image[voxels] += pattern
        self.markers[voxels] = True

    def blob(self, number: int, cell: tuple[int, int, int], pattern: np.ndarray) -> None:
        """Add the pattern of a blob."""
        self.image[_voxels(cell)] += pattern
        self.blobs[number][_voxels(cell)] = True

    def corners(self) -> list[tuple[int, int]]:
        """Return the cells across the long axis, in an order that is drawn."""
        return [CORNERS[i] for i in self.random.permutation(len(CORNERS))]

    def along(self, first: int, last: int) -> int:
        """Draw a cell along the long axis; ``last`` is one of them."""
        return int(self.random.integers(first, last + 1))


def _voxels(cell: tuple[int, int, int]) -> tuple[slice, ...]:
    return tuple(slice(CUBE * n, CUBE * (n + 1)) for n in cell)


def _stripes(axis: int) -> np.ndarray:
    """Return a marker of layers of +1 and -1 along the first or the second axis: the same values in another order."""
    shape = [1, 1, 1]
    shape[axis] = SIZE[axis]
    signs = np.where(np.arange(SIZE[axis]) // 2 % 2, -1, 1).astype(np.float32)
    return np.broadcast_to(signs.reshape(shape), (*SIZE[:2], CUBE * DEPTH))


def _look(axis: int) -> np.ndarray:
    """Return the pattern of a cell that is +1 in its first half along an axis and -1 in the other."""
    shape = [1, 1, 1]
    shape[axis] = CUBE
    signs = np.where(np.arange(CUBE) < CUBE // 2, 1, -1).astype(np.float32)
    return np.broadcast_to(signs.reshape(shape), (CUBE,) * 3)


LOOKS = [_look(axis) for axis in range(3)]
SOLID = np.ones((CUBE,) * 3, np.float32)


def _paint_what(canvas: _Canvas, kind: int, gap: int) -> tuple[int, int]:
    """A marker, striped one way or the other, is the class of both blobs; ``gap`` voxels lie between."""
    first = DEPTH + gap // CUBE
    start = canvas.along(0, CELLS[2] - 1 - first) if gap < FAR else 0
    last = start + first if gap < FAR else CELLS[2] - 1
    canvas.mark((0, 0, CUBE * start), _stripes(kind))
    for number, corner in enumerate(canvas.corners()[:2]):
        canvas.blob(number, (*corner, canvas.along(start + first, last)), SOLID)
    return kind, kind


def _paint_which(canvas: _Canvas, kind: int) -> tuple[int, int]:
    """Two blobs of different looks; each has the class of the marker, bright or dark, that looks like it."""
    looks = [LOOKS[i] for i in canvas.random.choice(len(LOOKS), 2, replace=False)]
    for number, side in enumerate(canvas.random.permutation(CELLS[0])):
        marker = np.tile(looks[number], (1, CELLS[1], DEPTH))
        canvas.mark((CUBE * int(side), 0, 0), marker + (1 if number == kind else -1))
    for number, corner in enumerate(canvas.corners()[:2]):
        canvas.blob(number, (*corner, canvas.along(DEPTH + FAR // CUBE, CELLS[2] - 1)), looks[number])
    return int(kind == 0), int(kind == 1)


def _paint_where(canvas: _Canvas, kind: int) -> tuple[int, int]:
    """Both blobs lie in the first half of the long axis; the other class is the same volume, turned round by half."""
    for number, corner in enumerate(canvas.corners()[:2]):
        canvas.blob(number, (*corner, canvas.along(1, CELLS[2] // 2 - 2)), SOLID)
    return kind, kind


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("near", "a marker close by", lambda canvas, kind: _paint_what(canvas, kind, NEXT)),
        Task("what", "a marker far away", lambda canvas, kind: _paint_what(canvas, kind, FAR)),
        Task("which", "that of two markers far away which looks like the blob", _paint_which),
        Task("where", "the half in which it lies", _paint_where, roll=SIZE[2] // 2, padding_mode="circular"),
    )
}
"""The tasks by name, in the order of tables."""


def draw(task: str, key: tuple[int, ...], count: int, swap: bool = False) -> Volumes:
    """Draw volumes of a task; the same key gives the same ones.

    The class is drawn for each volume. ``swap`` gives their twins, which have the other class and differ in nothing but
    what decides it.

    Args:
        task: a name in :data:`TASKS`.
        key: numbers, none of them negative, from which all that is drawn follows.
        count: how many volumes.
        swap: draw the twins.

    Example:
        >>> draw("which", (0,), 2).images.shape
        (2, 1, 8, 8, 64)
    """
    chosen = TASKS[task]
    images, blobs, classes, markers = [], [], [], []
    for number in range(count):
        canvas = _Canvas((*key, number))
        kind = int(canvas.random.integers(2)) ^ int(swap)
        own = np.array(chosen.paint(canvas, kind), np.int64)
        order = canvas.random.permutation(2)
        turn = chosen.roll * kind
        images.append(np.roll(canvas.image, turn, axis=-1)[None])
        blobs.append(np.roll(canvas.blobs[order], turn, axis=-1))
        classes.append(own[order])
        markers.append(canvas.markers)
    return Volumes(np.stack(images), np.stack(blobs), np.stack(classes), np.stack(markers))
