"""The grid of the planes of a series, measured from where they lie."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.workflow.data.formats.dicom_file import opened
from custom_networks.workflow.data.formats.dicom_planes import APART, SMALLEST, Plane

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
ALIKE = (
    ("orientation", "ImageOrientationPatient", 0, 1e-3),
    ("rows", "Rows", 0, 0),
    ("columns", "Columns", 0, 0),
    ("spacing", "PixelSpacing", 1e-4, 0),
)
"""What all planes have in common, and how far the numbers may differ."""
UNEQUAL = 0.01
"""Part of a distance by which another may differ."""
DRIFT = 0.1
"""Part of a voxel by which a slice may lie off the grid."""
UPRIGHT = 0.05
"""Degrees of a gantry tilt that is not worth a word."""


def measure(path: Path, planes: Sequence[Plane]) -> tuple[list[Plane], np.ndarray, list[str]]:
    """Return the planes in their order along the normal, the affine, and notes on how it was found.

    Args:
        path: file or folder, for messages.
        planes: of one series, in any order.

    Raises:
        ValueError: if the planes make no regular grid.
    """
    _check_alike(path, planes)
    across, down = planes[0].orientation
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    ordered = sorted(planes, key=lambda plane: float(plane.position @ normal))
    positions = np.array([plane.position for plane in ordered])
    if len(ordered) == 1:
        thickness, notes = _thickness(path, ordered[0])
        step = normal * thickness
    else:
        _check_distances(path, ordered, positions @ normal)
        step = (positions[-1] - positions[0]) / (len(ordered) - 1)
        _check_drift(path, ordered, positions, step)
        notes = _notes(ordered, step, normal)
    affine = np.eye(4)
    rows_apart, columns_apart = ordered[0].spacing
    affine[:3] = LPS_TO_RAS @ np.column_stack([across * columns_apart, down * rows_apart, step, positions[0]])
    return ordered, affine, notes


def _check_alike(path: Path, planes: Sequence[Plane]) -> None:
    """Refuse planes that differ in what a volume has once, and name one of the minority."""
    for attribute, keyword, relative, absolute in ALIKE:
        values: list[Any] = [getattr(plane, attribute) for plane in planes]
        alike = [bool(np.allclose(value, values[0], rtol=relative, atol=absolute)) for value in values]
        if all(alike):
            continue
        other = alike.index(False)
        odd, usual = (other, 0) if 2 * sum(alike) >= len(alike) else (0, other)
        raise ValueError(
            f"{path} mixes images of different {keyword}: {planes[odd].name} has {_text(values[odd])}, "
            f"{planes[usual].name} has {_text(values[usual])}; move localisers and other scans out of the folder"
        )


def _text(value: Any) -> str:
    return "\\".join(f"{number:g}" for number in np.ravel(value))


def _check_distances(path: Path, ordered: Sequence[Plane], along: np.ndarray) -> None:
    """Refuse slices that lie in one place, and slices that are missing or unequally far apart."""
    gaps = np.diff(along)
    fresh = gaps > max(SMALLEST * 10, UNEQUAL * float(gaps.max()))
    if not fresh.all():
        raise ValueError(_twice(path, ordered, fresh))
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    worst = int(np.abs(gaps - usual).argmax())
    # positions are often written with three decimals
    if abs(gaps[worst] - usual) <= max(UNEQUAL * usual, 1e-3):
        return
    where = (
        f"{usual:.4g} mm apart, but {gaps[worst]:.4g} mm between {ordered[worst].name} and {ordered[worst + 1].name}"
    )
    if gaps.max() > 1.5 * usual:
        raise ValueError(f"{path} lacks slices: they are {where}; add the missing ones")
    raise ValueError(f"{path} has slices at unequal distances: they are {where}; resample them to equal ones")


def _twice(path: Path, ordered: Sequence[Plane], fresh: np.ndarray) -> str:
    """Say what tells the images of one position apart."""
    starts = [0, *(np.flatnonzero(fresh) + 1).tolist(), len(ordered)]
    groups = [ordered[start:end] for start, end in itertools.pairwise(starts)]
    group = next(group for group in groups if len(group) > 1)
    first, second = group[:2]
    said = f"{path} has {len(ordered)} slices at {len(groups)} positions"
    pair = f"{first.name} and {second.name}"
    if first.file != second.file and first.uid and first.uid == second.uid:
        return f"{said}: {pair} are copies of one object; remove the copies"
    told = {keyword: {plane.apart.get(keyword, "none") for plane in group} for keyword in APART}
    telling = sorted((key for key in APART if len(told[key]) > 1), key=lambda key: len(told[key]) < len(group))
    if telling:
        values = sorted({plane.apart.get(telling[0], "none") for plane in ordered})
        listed = ", ".join(values[:5]) + (", ..." if len(values) > 5 else "")
        return f"{said}, told apart by {telling[0]} ({listed}): {pair} lie in one place; give the images of one of them"
    if _same_pixels(first, second):
        return f"{said}: {pair} are copies with the same pixels; remove the copies"
    return f"{said}, and no attribute tells {pair} apart; give the images of one volume"


def _same_pixels(first: Plane, second: Plane) -> bool:
    if first.file == second.file or None in (first.pixels.offset, second.pixels.offset):
        return False
    raw = []
    for plane in (first, second):
        with opened(plane.file) as stream:
            stream.seek(plane.pixels.offset or 0)
            raw.append(stream.read(plane.pixels.available if plane.pixels.length is None else plane.pixels.length))
    return raw[0] == raw[1]


def _check_drift(path: Path, ordered: Sequence[Plane], positions: np.ndarray, step: np.ndarray) -> None:
    """Refuse slices that lie off the grid that the first and the last span."""
    off = np.linalg.norm(positions - positions[0] - np.arange(len(ordered))[:, None] * step, axis=1)
    worst = int(off.argmax())
    if off[worst] > DRIFT * min(float(np.linalg.norm(step)), *ordered[0].spacing.tolist()):
        raise ValueError(
            f"{path} has slices that are not in line: {ordered[worst].name} lies {off[worst]:.3g} mm off the line from "
            f"{ordered[0].name} to {ordered[-1].name}; resample them to a regular grid"
        )


def _thickness(path: Path, plane: Plane) -> tuple[float, list[str]]:
    for thickness in plane.thicknesses:
        if thickness is not None and abs(thickness) > SMALLEST:
            return abs(thickness), []
    return 1.0, ["has one slice and no SliceThickness, which is taken as 1 mm"]


def _notes(ordered: Sequence[Plane], step: np.ndarray, normal: np.ndarray) -> list[str]:
    notes = []
    distance = float(step @ normal)
    tilt = math.degrees(math.atan2(float(np.linalg.norm(step - distance * normal)), distance))
    if tilt > UPRIGHT:
        notes.append(f"is sheared by a gantry tilt of {tilt:.3g} degrees, which is kept")
    said = ordered[0].thicknesses[0]
    if said is not None and abs(abs(said) - distance) > UNEQUAL * distance:
        notes.append(
            f"gives SpacingBetweenSlices {abs(said):.4g} mm, but positions are {distance:.4g} mm apart, which counts"
        )
    return notes
