"""Label maps whose metrics can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.synthetic import write_nifti

AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])
SHIFTED = {
    "dice": 0.75,
    "nsd": 40 / 56,
    "iou": 0.6,
    "voe": 0.4,
    "rvd": 0.0,
    "mean_surface_distance": 36 / 56,
    "hd95": 2,
}
"""Of a box of 4 x 4 x 4 voxels of 2 x 1 x 1 mm that is one voxel off along the first axis: of its surface of 56 voxels
16 are 2 mm from that of the other, 4 are 1 mm from it, and 36 lie on it. The tolerance is 1 mm.
"""


def box(shift: int = 0, value: int = 1) -> np.ndarray:
    """Return a label map with a box, so many voxels off along the first axis."""
    voxels = np.zeros((12, 10, 9), np.uint8)
    voxels[2 + shift : 6 + shift, 2:6, 2:6] = value
    return voxels


def save(file: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    return write_nifti(voxels, file, affine)
