"""Crops around named structures of an image of a head."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.workflow.locate.grids import apply, corners, rigid_part
from custom_networks.workflow.locate.plausible import check_head, check_image, inside_image, say_registration
from custom_networks.workflow.locate.registration import Registration, register
from custom_networks.workflow.locate.template import load_template

LEAST_APART = 10.0
"""Millimetres between start points of two sides: closer, or the other way round, is a mistake."""
LEAST_SCALE = 0.9
"""Size of the crop in the smallest heads, by that in the template."""
HIPPOCAMPI = (
    {"name": "Left", "point": (-23.0, -23.5, -12.0), "mirrored": False, "volume_ml": (1.2, 6.0)},
    {"name": "Right", "point": (25.5, -22.5, -11.5), "mirrored": True, "volume_ml": (1.2, 6.0)},
)
"""Centres of the two hippocampi in MNI space, that a right one is shown as its mirror image, and what they measure."""
LEAST_OF_CROP, WHOLE_CROP = 0.5, 0.995
"""Share of a crop in the image below which it is refused, and below which it is said."""
KEYS = ("name", "point", "mirrored", "volume_ml")


@dataclass(frozen=True)
class Region:
    """A structure to look for.

    Args:
        name: its name.
        point: its centre in mm of the template's space, right, anterior, superior.
        mirrored: whether its crop is mirrored left to right, to look like that of the other side.
        volume_ml: least and largest volume that is believed, in mL; ``None`` where that is not known.
    """

    name: str
    point: tuple[float, float, float]
    mirrored: bool = False
    volume_ml: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Crop:
    """A grid around a structure.

    Args:
        region: what it is around.
        affine: ``(4, 4)``, its voxels to mm of the image, RAS; the first column of a mirrored region points left.
        shape: its number of voxels per axis.
    """

    region: Region
    affine: np.ndarray
    shape: tuple[int, int, int]

    @property
    def centre(self) -> np.ndarray:
        """Return its centre in mm of the image, ``(3,)``."""
        return apply(self.affine, (np.array(self.shape) - 1) / 2)


@dataclass(frozen=True, eq=False)
class Located:
    """What was found in an image.

    Args:
        registration: where the template lies in the image; ``None`` for points given by hand.
        crops: one for each region.
        problems: sentences that must be said: what casts doubt on the result.
        head: facts for the record: ``metric``, ``determinant``, ``shear``, ``rotation_degrees``, ``inside``,
            ``likeness``, ``start``, ``starts``, and ``head_ml``, the volume inside the skull as far as a registration
            tells it: the determinant times the template's.
    """

    registration: Registration | None
    crops: list[Crop]
    problems: list[str] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=dict)


def _numbers(value: Any, count: int, name: str) -> tuple[Any, ...]:
    try:
        numbers = tuple(float(one) for one in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be {count} numbers, got {value!r}")
    return numbers


def region_of(given: Mapping[str, Any]) -> Region:
    """Return a region as it is written in a config.

    Args:
        given: ``name``, ``point``, and if need be ``mirrored`` and ``volume_ml``.

    Raises:
        ValueError: if it is not that.

    Example:
        >>> region_of({"name": "Left-Caudate", "point": [-14, 9, 9]})
        Region(name='Left-Caudate', point=(-14.0, 9.0, 9.0), mirrored=False, volume_ml=None)
    """
    if unknown := sorted(set(given) - set(KEYS)):
        raise ValueError(f"a region does not know {', '.join(unknown)}; it takes {', '.join(KEYS)}")
    if missing := [key for key in KEYS[:2] if key not in given]:
        raise ValueError(f"a region needs a name and a point, got {dict(given)} without {missing[0]}")
    name, mirrored, volume = str(given["name"]), given.get("mirrored", False), given.get("volume_ml")
    if mirrored not in (True, False):
        raise ValueError(f"mirrored of the region {name} must be true or false, got {mirrored!r}")
    limits = None if volume is None else _numbers(volume, 2, f"volume_ml of the region {name}")
    return Region(name, _numbers(given["point"], 3, f"the point of the region {name}"), bool(mirrored), limits)


class LocateRegions:
    r"""Find where named structures lie in an image of a head, and give a straight crop around each.

    A template brain is registered with the image; the regions' points in the template's space go where that leads them,
    and a crop is laid around each. Its axes are those of the template, turned by the rigid part of the registration
    into the image, so that a head that lies askew is straight in the crop; its voxels are not stretched. A crop grows
    and shrinks with the head: with the affine part :math:`A` of the registration it is
    :math:`\max(0.9, \sqrt[3]{\det A})` times as large as ``crop_size``, since the structures of the smallest heads are
    less small than these.

    Args:
        template: NIfTI file of a skull-stripped T1; the MNI152 of the package if ``None``.
        regions: for each structure ``name``, ``point`` in mm of the template's space, and if need be ``mirrored`` and
            ``volume_ml``, see :class:`Region`; the two hippocampi in MNI space if ``None``.
        crop_size: in mm of the template's space, or of the image where points are given by hand.
        spacing: voxel size of the crops in mm.
        start_points: points by hand instead of a registration, ``{name: [right, anterior, superior]}`` in mm of the
            image, for every region; the crops' axes are then those of the image's world.

    Raises:
        ValueError: if an argument is not that.

    Example:
        >>> locate = LocateRegions(start_points={"Left": [30, 50, 40], "Right": [70, 50, 40]})
        >>> left, right = locate(np.zeros((100, 100, 100)), np.eye(4)).crops
        >>> right.centre.tolist(), np.diag(right.affine).tolist(), right.shape
        ([70.0, 50.0, 40.0], [-1.0, 1.0, 1.0, 1.0], (40, 58, 42))

    Cost:
        One registration, about a second on one thread; five where the first start does not suffice.
    """

    def __init__(
        self,
        template: str | Path | None = None,
        regions: Sequence[Mapping[str, Any]] | None = None,
        crop_size: Sequence[float] = (40, 58, 42),
        spacing: Sequence[float] = (1, 1, 1),
        start_points: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.template = template
        self.regions = [region_of(given) for given in (HIPPOCAMPI if regions is None else regions)]
        names = [region.name for region in self.regions]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"each region needs a name of its own, got {names}")
        self.spacing = np.array(_numbers(spacing, 3, "spacing"))
        size = np.array(_numbers(crop_size, 3, "crop_size"))
        if (self.spacing <= 0).any() or (size < self.spacing).any():
            raise ValueError(
                f"crop_size {tuple(size)} mm must hold at least one voxel of {tuple(self.spacing)} mm per axis"
            )
        self.size = size
        self.start_points = None if start_points is None else self._checked_points(start_points)

    def _checked_points(self, points: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
        names = [region.name for region in self.regions]
        if sorted(points) != sorted(names):
            raise ValueError(f"start_points must name {', '.join(names)}, got {', '.join(points) or 'none'}")
        found = {name: np.array(_numbers(points[name], 3, f"the start point of {name}")) for name in names}
        for one, other in itertools.combinations(self.regions, 2):
            wanted, given = one.point[0] - other.point[0], float(found[one.name][0] - found[other.name][0])
            if one.mirrored != other.mirrored and given * np.sign(wanted) < LEAST_APART:
                left, right = (one, other) if wanted < 0 else (other, one)
                raise ValueError(
                    f"the start point of {left.name} must lie {LEAST_APART:g} mm or more to the left of that of "
                    f"{right.name}, got {found[left.name].tolist()} and {found[right.name].tolist()}; give mm of the "
                    "image to the right, to the front and up"
                )
        return found

    def __call__(self, voxels: np.ndarray, affine: np.ndarray, orientation_known: bool = True) -> Located:
        """Return a crop around each structure of an image.

        Args:
            voxels: ``(X, Y, Z)``.
            affine: ``(4, 4)``, voxels to mm, RAS, with any rotation, shear and order of axes.
            orientation_known: false where the file does not say which side is which.

        Raises:
            ValueError: if nothing can be located: the image is no head, or the template does not fit it.
            ModuleNotFoundError: if SimpleITK is not installed and points are not given by hand.
        """
        voxels, affine = np.asarray(voxels), np.asarray(affine, dtype=float)
        check_image(voxels, affine)
        problems = []
        if not orientation_known:
            problems.append(
                "the file does not say how the head lies in it (its orientation codes are 0), so left and right may be "
                "exchanged"
            )
        if self.start_points is not None:
            by_hand = self._by_hand(voxels, affine)
            return Located(None, by_hand, problems + _say_inside(by_hand, voxels.shape, affine))
        check_head(voxels, affine)
        template = load_template(self.template)
        registration = register(voxels, affine, template)
        head, said = say_registration(registration, template)
        turn, scale = rigid_part(registration.affine), max(LEAST_SCALE, float(np.cbrt(head["determinant"])))
        crops = [
            self._crop(region, apply(registration.affine, np.array(region.point)), turn, scale)
            for region in self.regions
        ]
        problems += [*said, *_say_inside(crops, voxels.shape, affine)]
        return Located(registration, crops, problems, head)

    def _by_hand(self, voxels: np.ndarray, affine: np.ndarray) -> list[Crop]:
        crops = []
        for region in self.regions:
            point = (self.start_points or {})[region.name]
            place = apply(np.linalg.inv(affine), point)
            if not ((place >= -0.5) & (place <= np.array(voxels.shape) - 0.5)).all():
                ends = corners(voxels.shape, affine)
                reach = ", ".join(
                    f"{a:.0f} to {b:.0f}" for a, b in zip(ends.min(axis=0), ends.max(axis=0), strict=True)
                )
                raise ValueError(
                    f"the start point of {region.name}, {point.tolist()} mm, is not in the image, which reaches from "
                    f"{reach} mm to the right, to the front and up"
                )
            crops.append(self._crop(region, point, np.eye(3)))
        return crops

    def _crop(self, region: Region, centre: np.ndarray, turn: np.ndarray, scale: float = 1.0) -> Crop:
        x, y, z = (max(1, round(float(n))) for n in scale * self.size / self.spacing)
        affine = np.eye(4)
        affine[:3, :3] = turn * self.spacing
        if region.mirrored:
            affine[:3, 0] *= -1
        affine[:3, 3] = centre - affine[:3, :3] @ ((np.array((x, y, z)) - 1) / 2)
        return Crop(region, affine, (x, y, z))

    def move(self, crop: Crop, offset_mm: Sequence[float]) -> Crop:
        """Return a crop moved along its own axes.

        Args:
            crop: the crop.
            offset_mm: mm along each of its axes; the first of a mirrored one points to the left.
        """
        axes = crop.affine[:3, :3] / np.linalg.norm(crop.affine[:3, :3], axis=0)
        affine = crop.affine.copy()
        affine[:3, 3] += axes @ np.asarray(offset_mm, dtype=float)
        return replace(crop, affine=affine)


def _say_inside(crops: Sequence[Crop], shape: Sequence[int], affine: np.ndarray) -> list[str]:
    """Return what crops that reach out of the image cast doubt on; refuse where there is hardly any image in one."""
    problems = []
    for crop in crops:
        share = inside_image(crop.shape, crop.affine, shape, affine)
        if share < LEAST_OF_CROP:
            raise ValueError(
                f"only {share:.0%} of the crop around {crop.region.name} lies in the image; give an image of the whole "
                "head"
            )
        if share < WHOLE_CROP:
            problems.append(f"only {share:.0%} of the crop around {crop.region.name} lies in the image")
    return problems
