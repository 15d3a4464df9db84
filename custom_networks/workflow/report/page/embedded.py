"""What the viewer on the page shows: small copies of an image and its masks, packed into the page itself."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np

from custom_networks.workflow.report.page.colours import rgb
from custom_networks.workflow.report.page.scans import Scan, Structure, grey_levels

MOST_VOXELS = 160
"""Per axis; larger images are averaged over blocks."""
BUDGET = 24 * 2**20
"""Bytes of all images that a page holds for its viewer; what comes later has pictures only."""


def embedded(scan: Scan, structures: Sequence[Structure]) -> dict[str, Any]:
    """Return what the page's script gives to the viewer, ready for JSON.

    The image is uint8, and every mask holds 1, 2, ... for the structures in their order, 0 elsewhere. Nothing of the
    file's header is kept but its affine.

    Args:
        scan: the image and its masks.
        structures: what the masks hold; where two share a value, it is shown as the later one, which lies inside.

    Returns:
        ``{"image": base64, "masks": [{"name", "data"}], "labels": [{"name", "colour": [r, g, b]}], "step", "shape"}``.
    """
    from skimage.measure import block_reduce

    steps = tuple(-(-n // MOST_VOXELS) for n in scan.image.shape)
    small = grey_levels(scan.image)
    if max(steps) > 1:
        whole = tuple(slice(0, n // step * step) for n, step in zip(small.shape, steps, strict=True))
        small = block_reduce(small[whole], steps, np.mean).astype(np.uint8)
    every = tuple(slice((step - 1) // 2, None, step) for step in steps)
    masks = []
    for name, mask in scan.masks.items():
        picked = mask[every][tuple(slice(0, n) for n in small.shape)]
        numbers = np.zeros(picked.shape, dtype=np.uint8)
        for number, structure in enumerate(structures, start=1):
            numbers[np.isin(picked, structure.values)] = number
        masks.append({"name": name, "data": _packed(numbers, scan.affine, steps, [(step - 1) // 2 for step in steps])})
    return {
        "image": _packed(small, scan.affine, steps, [(step - 1) / 2 for step in steps]),
        "masks": masks,
        "labels": [{"name": structure.name, "colour": rgb(structure.colour)} for structure in structures],
        "step": max(steps),
        "shape": list(small.shape),
    }


def size_of(content: Mapping[str, Any]) -> int:
    """Return the bytes that an embedded image takes.

    Args:
        content: see :func:`embedded`.
    """
    return len(content["image"]) + sum(len(mask["data"]) for mask in content["masks"])


def _packed(voxels: np.ndarray, affine: np.ndarray, steps: Sequence[int], first: Sequence[float]) -> str:
    """Return a NIfTI file in base64 whose voxels are every ``steps`` of a grid, from ``first`` on."""
    own = affine @ np.diag([*steps, 1.0])
    own[:3, 3] = nib.affines.apply_affine(affine, first)
    image = nib.Nifti1Image(voxels, own)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), 9, mtime=0)).decode()
