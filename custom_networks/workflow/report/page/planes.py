"""Three planes of an image with the outlines of its structures, as SVG."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from custom_networks.workflow.report.page.scans import Scan, Structure, grey_levels

MOST_PIXELS = 384
# name, the axis that stands on the plane, and the patient's sides at left, right, top and bottom
PLANES = (("axial", 2, "RLAP"), ("coronal", 1, "RLSI"), ("sagittal", 0, "APSI"))


@dataclass(frozen=True)
class Outline:
    """The outline of a structure on a plane.

    Args:
        name: the structure.
        mask: whose it is, such as "prediction".
        colour: of the line.
        path: what SVG draws, in mm.
    """

    name: str
    mask: str
    colour: str
    path: str


@dataclass(frozen=True)
class Plane:
    """One plane.

    Args:
        name: axial, coronal or sagittal.
        sides: the patient's sides at the left, right, upper and lower edge.
        width: in mm.
        height: in mm.
        picture: the image as PNG in base64.
        outlines: what is drawn over it.
    """

    name: str
    sides: str
    width: float
    height: float
    picture: str
    outlines: tuple[Outline, ...]


def planes_of(scan: Scan, structures: Sequence[Structure], halves: Sequence[Structure] = ()) -> list[Plane]:
    """Return three planes through the voxel of each axis that holds most of the structures.

    They are turned as radiologists have it: the patient's right on the left, in the sagittal plane the front.

    Args:
        scan: the image and its masks.
        structures: what to outline.
        halves: what gets a sagittal plane through its own voxels, where one plane does not meet all.
    """
    levels, every = grey_levels(scan.image), scan.foreground
    wanted = [(*plane, every) for plane in PLANES]
    if halves:
        *first, (name, axis, sides, _) = wanted
        wanted = [*first, *((f"{name}, {half.name}", axis, sides, scan.found(half)) for half in halves)]
    planes = []
    for name, axis, sides, found in wanted:
        across, up = (a for a in range(3) if a != axis)
        per_slice = found.sum(axis=(across, up))
        index = int(per_slice.argmax()) if per_slice.any() else scan.image.shape[axis] // 2
        step = (float(scan.spacing[across]), float(scan.spacing[up]))
        outlines = []
        for kind, mask in scan.masks.items():
            labels = _turned(mask, axis, index)
            for structure in structures:
                path = outline_path(np.isin(labels, structure.values), *step)
                if path:
                    outlines.append(Outline(structure.name, kind, structure.colour, path))
        pixels = _turned(levels, axis, index)
        width, height = pixels.shape[1] * step[0], pixels.shape[0] * step[1]
        planes.append(Plane(name, sides, width, height, _png(pixels), tuple(outlines)))
    return planes


def outline_path(mask: np.ndarray, across: float, down: float) -> str:
    """Return the outline of a mask as an SVG path, empty if there is none.

    Args:
        mask: ``(rows, columns)``.
        across: size of a pixel along a row.
        down: size of a pixel along a column.

    Example:
        >>> outline_path(np.array([[True]]), 1, 1)
        'M.5 1L0 .5L.5 0L1 .5Z'
    """
    from skimage.measure import find_contours

    if not mask.any():
        return ""
    parts = []
    for line in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        points = [f"{_short((x - 0.5) * across)} {_short((y - 0.5) * down)}" for y, x in line[:-1]]
        parts.append("M" + "L".join(points) + "Z")
    return "".join(parts)


def _short(number: float) -> str:
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return text.removeprefix("0") if text.startswith("0.") else text


def _turned(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Return one plane as rows from top to bottom."""
    return volume.take(index, axis).T[::-1, ::-1]


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if max(pixels.shape) > MOST_PIXELS:
        share = MOST_PIXELS / max(pixels.shape)
        picture = picture.resize([max(1, round(n * share)) for n in pixels.shape[::-1]], Image.Resampling.BOX)
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
