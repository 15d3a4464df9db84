"""The template brain that comes with the package, made from one that nilearn ships."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage

from custom_networks.files import replacing
from custom_networks.workflow.data.headers import spatial_image
from custom_networks.workflow.locate.grids import resample_coarsely
from custom_networks.workflow.locate.template import STEP, TEMPLATE, load_template
from tools.data.datasets import SYMMETRIC, TEMPLATES, wheel_file


def template() -> None:
    """Write the template brain of the package, the MNI ICBM152 2009a T1 that nilearn ships, at 3 mm.

    Its zeros are what is outside the brain; holes in it are filled first. The same version of nilearn gives the same
    voxels.

    Raises:
        ModuleNotFoundError: if nilearn is not installed.
        FileNotFoundError: if this version of nilearn does not carry the file.
    """
    image = nib.as_closest_canonical(nib.load(wheel_file(*TEMPLATES[SYMMETRIC])))
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    brain = ndimage.binary_fill_holes(voxels > 0).astype(np.float32)
    voxels, affine = resample_coarsely(voxels, image.affine, STEP)
    inside = resample_coarsely(brain, image.affine, STEP)[0] > 0.5
    stored = np.where(inside, np.clip(np.rint(voxels), 1, 255), 0).astype(np.uint8)
    with replacing(TEMPLATE) as path:
        nib.save(spatial_image(stored, affine), path)
    made = load_template()
    size = TEMPLATE.stat().st_size / 1000
    print(f"{TEMPLATE} has {made.voxels.shape} voxels, {made.intracranial_ml:.0f} mL of brain, {size:.0f} kB")
