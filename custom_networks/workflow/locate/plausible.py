"""What casts doubt on a registration, and on the masks of the structures that it led to.

The thresholds of the metric stand between what was measured with the template of the package.

Found, and all centres right within 5 mm:

- twelve skull-stripped brains of OASIS: -0.68 to -0.59;
- Colin 27 with his skull: -0.60;
- the same in 198 of 200 random poses (turned by up to 20 degrees, moved by up to 40 mm, scaled by up to 8 % per axis,
  under a bias field of up to a factor of six between two corners; ``make fuzz``, seed 0): -0.62 to -0.35, the median
  -0.50, two above -0.36; the other two, at -0.23 and -0.22, were lost in their bias fields, and refused.

No brain:

- noise: -0.24 to 0; smooth noise: -0.12; a knee-like phantom: -0.18; CT of head and neck: -0.10; a heart: -0.04;
- Colin 27 on his face or back to front: -0.24; a FLAIR image with a tumour: -0.17;
- even balls: -0.26 to -0.12; balls bright in the middle or at the rim: -0.32 to -0.24.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from custom_networks.workflow.locate.grids import apply, rigid_part
from custom_networks.workflow.locate.registration import Registration
from custom_networks.workflow.locate.template import Template

if TYPE_CHECKING:
    from custom_networks.workflow.locate.regions import Located

REFUSED, DOUBTFUL = -0.30, -0.36
"""Metric above which a registration is refused, and above which it is said to be doubtful."""
DETERMINANTS = (0.6, 1.6)
"""Volume of a head over that of the template, which is large: 0.63 to 0.88 in the twelve brains, 0.97 in Colin 27."""
MOST_STRETCH = 1.5
"""Largest stretch of the template over the smallest: 1.02 to 1.18 in those heads."""
MOST_ROTATION = 50.0
"""Degrees."""
LEAST_INSIDE = 0.95
"""Share of the template's brain that lies in the image."""
LEAST_LIKENESS = 0.25
"""Correlation of the intensities with the template's: 0.67 and more in those heads, 0.55 with a strong bias field."""
LEAST_MM, MOST_MM = 90.0, 700.0
"""Size of an image of a head along an axis; a crop around one structure is smaller."""
MOST_ASYMMETRY = 0.35
"""Difference of two sides over their mean."""
MOST_MM_AWAY = 12.0
"""From a region's point to the centre of its mask, in the template's space."""
LEAST_SHARE = 0.9
"""Share of a mask that is in one piece."""


def check_image(voxels: np.ndarray, affine: np.ndarray) -> None:
    """Refuse what is not one 3D image of finite values on a grid.

    Args:
        voxels: should be ``(X, Y, Z)``.
        affine: should be ``(4, 4)`` and invertible.

    Raises:
        ValueError: if it is not.
    """
    if voxels.ndim != 3 or min(voxels.shape) < 2:
        raise ValueError(f"an image of a head has three axes of two voxels or more, got the shape {voxels.shape}")
    if not np.isfinite(voxels).all():
        raise ValueError("the image holds values that are not finite numbers; set them to the value of air")
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError(f"the affine of the image is no grid in mm: {affine.tolist()}")


def check_head(voxels: np.ndarray, affine: np.ndarray) -> None:
    """Refuse an image that is too small or too large to be that of a head.

    Args:
        voxels: ``(X, Y, Z)``.
        affine: ``(4, 4)``, voxels to mm.

    Raises:
        ValueError: if it is.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0) * voxels.shape
    if min(sizes) < LEAST_MM or max(sizes) > MOST_MM:
        size = " x ".join(f"{one:.0f}" for one in sizes)
        raise ValueError(
            f"the image is {size} mm large, which is no whole head; give one of {LEAST_MM:.0f} to {MOST_MM:.0f} mm per "
            "axis, check its voxel size, or name the structures' centres with start_points"
        )


def inside_image(shape: Sequence[int], grid: np.ndarray, image_shape: Sequence[int], affine: np.ndarray) -> float:
    """Return the share of a grid that lies in an image.

    Args:
        shape: number of voxels of the grid.
        grid: ``(4, 4)``, its voxels to mm.
        image_shape: number of voxels of the image.
        affine: ``(4, 4)``, voxels of the image to mm.
    """
    steps = [np.linspace(0, n - 1, min(n, 20)) for n in shape]
    points = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    places = apply(np.linalg.inv(affine) @ grid, points)
    return float(((places >= -0.5) & (places <= np.array(image_shape) - 0.5)).all(axis=1).mean())


def say_registration(registration: Registration, template: Template) -> tuple[dict[str, Any], list[str]]:
    """Return facts of a registration for the record, and what casts doubt on it; refuse one that failed.

    Args:
        registration: the registration.
        template: its template.

    Raises:
        ValueError: if it failed.
    """
    linear = registration.affine[:3, :3]
    determinant = float(np.linalg.det(linear))
    stretches = np.linalg.svd(linear, compute_uv=False)
    stretch = float(stretches[0] / stretches[-1])
    rotation = rigid_part(registration.affine)
    angle = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    head = {
        "metric": registration.metric,
        "determinant": determinant,
        "shear": stretch,
        "rotation_degrees": angle,
        "inside": registration.inside,
        "likeness": registration.likeness,
        "start": registration.start,
        "starts": registration.starts,
        "head_ml": abs(determinant) * template.intracranial_ml,
    }
    failed = (
        "the template brain was not found in the image ({}); give a T1 image of a whole head in its right orientation, "
        "or name the structures' centres with start_points"
    )
    if registration.metric > REFUSED:
        raise ValueError(failed.format(f"metric {registration.metric:.2f}, {REFUSED} or lower is needed"))
    if determinant <= 0:
        raise ValueError(failed.format("it fits only as its mirror image"))
    problems = []
    if registration.metric > DOUBTFUL:
        problems.append(
            f"the template brain fits the image poorly (metric {registration.metric:.2f}, -0.40 or lower is usual)"
        )
    if not DETERMINANTS[0] <= determinant <= DETERMINANTS[1]:
        problems.append(f"the head has {determinant:.2f} times the template's volume, which is outside of 0.6 to 1.6")
    if stretch > MOST_STRETCH:
        problems.append(f"the template had to be stretched {stretch:.2f} times more along one axis than another")
    if angle > MOST_ROTATION:
        problems.append(f"the head is turned by {angle:.0f} degrees, so the image's orientation may be wrong")
    if registration.inside < LEAST_INSIDE:
        problems.append(f"only {registration.inside:.0%} of the brain lies in the image")
    if registration.likeness < LEAST_LIKENESS:
        problems.append(f"the image does not look T1-weighted (likeness {registration.likeness:.2f})")
    return head, problems


def say_masks(masks: Mapping[str, np.ndarray], affine: np.ndarray, located: Located) -> list[str]:
    """Return what casts doubt on the masks of the regions, one sentence each.

    Args:
        masks: for each region its mask ``(X, Y, Z)``, bool.
        affine: ``(4, 4)``, voxels of the masks to mm of the image.
        located: what led to them.

    Cost:
        Looks only at the smallest box around each mask.
    """
    problems, volumes = [], {}
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
    for crop in located.crops:
        region = crop.region
        mask = masks[region.name]
        volumes[region.name] = volume = int(mask.sum()) * voxel_ml
        if not volume:
            problems.append(f"nothing was found of {region.name}")
            continue
        low, high = region.volume_ml or (0.0, float("inf"))
        if not low <= volume <= high:
            problems.append(f"{region.name} has {volume:.2f} mL, which is outside of {low:g} to {high:g} mL")
        (box,) = ndimage.find_objects(mask.astype(np.uint8))
        pieces, count = ndimage.label(mask[box], np.ones((3, 3, 3)))
        share = np.bincount(pieces.ravel())[1:].max() / mask[box].sum()
        if share < LEAST_SHARE:
            problems.append(f"{region.name} is in {count} pieces, of which the largest holds {share:.0%}")
        centre = np.argwhere(mask[box]).mean(axis=0) + [one.start for one in box]
        if located.registration is not None:
            place = apply(np.linalg.inv(located.registration.affine) @ affine, centre)
            away, origin = float(np.linalg.norm(place - region.point)), "it is in the template"
        else:
            away, origin = float(np.linalg.norm(apply(affine, centre) - crop.centre)), "its start point says"
        if away > MOST_MM_AWAY:
            problems.append(f"{region.name} lies {away:.0f} mm from where {origin}")
    return problems + _say_sides(volumes, [crop.region.mirrored for crop in located.crops])


def _say_sides(volumes: Mapping[str, float], mirrored: Sequence[bool]) -> list[str]:
    """Return a sentence where two sides of one structure differ too much."""
    if sorted(mirrored) != [False, True] or not all(volumes.values()):
        return []
    (one, first), (other, second) = volumes.items()
    difference = abs(first - second) / ((first + second) / 2)
    if difference <= MOST_ASYMMETRY:
        return []
    return [f"{one} has {first:.2f} mL and {other} {second:.2f} mL, a difference of {difference:.0%} of their mean"]
