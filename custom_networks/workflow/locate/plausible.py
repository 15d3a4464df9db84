"""What casts doubt on a registration, and on the masks of the structures that it led to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from custom_networks.workflow.locate.grids import apply, rigid_part
from custom_networks.workflow.locate.registration import Registration
from custom_networks.workflow.locate.template import Template

REFUSED, DOUBTFUL = -0.30, -0.36
"""Metric above which a registration is refused, and above which it is said to be doubtful."""
DETERMINANTS = (0.6, 1.6)
MOST_SHEAR = 1.5
MOST_ROTATION = 50.0
LEAST_INSIDE = 0.95
LEAST_LIKENESS = 0.25
LEAST_MM, MOST_MM = 90.0, 700.0


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
    rotation = rigid_part(registration.affine)
    angle = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    head = {
        "metric": registration.metric,
        "determinant": determinant,
        "shear": float(stretches[0] / stretches[-1]),
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
        problems.append(f"the template brain fits the image poorly (metric {registration.metric:.2f}, usual is -0.43)")
    if not DETERMINANTS[0] <= determinant <= DETERMINANTS[1]:
        problems.append(f"the head has {determinant:.2f} times the template's volume, which is outside of 0.6 to 1.6")
    if head["shear"] > MOST_SHEAR:
        problems.append(f"the template had to be stretched {head['shear']:.2f} times more along one axis than another")
    if angle > MOST_ROTATION:
        problems.append(f"the head is turned by {angle:.0f} degrees, so the image's orientation may be wrong")
    if registration.inside < LEAST_INSIDE:
        problems.append(f"only {registration.inside:.0%} of the brain lies in the image")
    if registration.likeness < LEAST_LIKENESS:
        problems.append(f"the image does not look T1-weighted (likeness {registration.likeness:.2f})")
    return head, problems
