"""A template brain, to which an image of a head is compared."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from custom_networks.workflow.locate.grids import resample_coarsely

TEMPLATE = Path(__file__).with_name("mni152_t1_3mm.nii.gz")
STEP = 3.0
"""Voxel size in mm of the grid on which images are compared."""
LEAST_ML, MOST_ML = 500.0, 4000.0


@dataclass(frozen=True, eq=False)
class Template:
    """A template brain.

    Args:
        voxels: ``(X, Y, Z)``, float32, zero outside the brain.
        affine: ``(4, 4)``, voxels to mm of the template's space, RAS, axes parallel to those of the space.
        brain: ``(X, Y, Z)``, bool: the brain and the fluid around it.
        intracranial_ml: volume of ``brain`` in mL.
    """

    voxels: np.ndarray
    affine: np.ndarray
    brain: np.ndarray
    intracranial_ml: float


@functools.lru_cache(maxsize=4)
def _load(path: Path, _changed: int) -> Template:
    image: Any = nib.load(path)
    if len(image.shape) != 3:
        raise ValueError(f"the template {path} has the shape {image.shape}; give one of a single 3D volume")
    # a copy: what is mapped into memory would change with the file
    voxels, affine = np.asarray(image.dataobj, dtype=np.float32).copy(), np.array(image.affine)
    if not np.isfinite(voxels).all():
        raise ValueError(f"the template {path} holds values that are not finite numbers; give another file")
    voxels, affine = resample_coarsely(voxels, affine, STEP)
    brain = ndimage.binary_fill_holes(voxels > 0)
    volume = float(brain.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
    if not LEAST_ML <= volume <= MOST_ML or voxels.min() < 0:
        raise ValueError(
            f"the template {path} is not a brain with zeros around it: {volume:.0f} mL of it are above zero; give a "
            "skull-stripped T1 image of a head in mm"
        )
    return Template(voxels, affine, brain, volume)


def template_file(path: str | Path | None = None) -> Path:
    """Return the file of a template, that of the package if no other is named.

    Args:
        path: a NIfTI file.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    file = TEMPLATE if path is None else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no template {file}; give a skull-stripped T1 image, or leave template out")
    return file


def load_template(path: str | Path | None = None) -> Template:
    """Return a template brain on a grid of 3 mm; the one that comes with the package if no other is named.

    That one is the MNI ICBM152 2009a symmetric average T1 without skull, as nilearn ships it, at 3 mm. Its volume
    inside the skull, 1887 mL, is large: the space is known to be larger than most heads.

    Args:
        path: a NIfTI file of a skull-stripped T1, zero outside the brain.

    Raises:
        ValueError: if the file is not that.
        FileNotFoundError: if there is no such file.

    Example:
        >>> template = load_template()
        >>> template.voxels.shape, round(template.intracranial_ml / 10) * 10
        ((65, 77, 63), 1890)

    References:
        V. Fonov, A. Evans, K. Botteron, C. Almli, R. McKinstry, D. Collins, "Unbiased average age-appropriate atlases
        for pediatric studies", NeuroImage 54, 2011, doi:10.1016/j.neuroimage.2010.07.033; copyright and permission in
        MNI152_LICENSE.txt beside the file.
    """
    file = template_file(path)
    return _load(file, file.stat().st_mtime_ns)
