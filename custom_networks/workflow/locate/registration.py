"""Affine registration of an image of a head with a template brain."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from custom_networks.workflow.locate.grids import apply, resample_coarsely
from custom_networks.workflow.locate.template import STEP, Template

if TYPE_CHECKING:
    import SimpleITK

GOOD = -0.40
"""Mutual information from which the first start is enough; see :mod:`~custom_networks.workflow.locate.plausible`."""
BINS = 32
BRIGHTEST = 99.5
"""Percentile to which intensities are clipped: vessels and fat would take most of the bins."""
MARGIN = 2
"""Voxels around the template's brain that are compared, too: an outline says where a brain ends."""
TURNS = [(0, 0, 0), (-20, 0, 0), (20, 0, 0), (0, -20, 0), (0, 20, 0), (0, 0, -20), (0, 0, 20), (-40, 0, 0), (40, 0, 0)]
"""Nine orientations to start from, degrees about the axes to the right, to the front and up."""
SHIFTS = (0.0, 30.0, 60.0)
"""Three shifts to start from, mm up from the centre of mass, which a neck draws down."""
NOTHING = 0.0
"""Metric where nothing of the image is compared."""
KEPT = 3
"""Starts that are followed to their end: those with the best metric."""
FLIP = np.diag([-1.0, -1.0, 1.0])
"""From right, anterior, superior to left, posterior, superior, in which SimpleITK counts."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Where a template lies in an image.

    Args:
        affine: ``(4, 4)``, mm of the template to mm of the image, RAS.
        metric: Mattes mutual information, negative, lower is better.
        start: the start that led there: ``"moments"``, or degrees and mm of another one.
        starts: how many were tried.
        inside: share of the template's brain that lies in the image.
        likeness: correlation of the intensities with the template's inside the brain; negative where white matter is
            darker than grey.
    """

    affine: np.ndarray
    metric: float
    start: str
    starts: int = 1
    inside: float = 1.0
    likeness: float = 1.0


def to_sitk(voxels: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    """Return an image of SimpleITK on a grid whose axes are those of the world.

    Args:
        voxels: ``(X, Y, Z)``.
        affine: ``(4, 4)``, voxels to mm, RAS, a positive diagonal and a shift.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing(np.diag(affine)[:3].tolist())
    image.SetDirection(FLIP.ravel().tolist())
    image.SetOrigin((FLIP @ affine[:3, 3]).tolist())
    return image


def from_sitk(transform: Any) -> np.ndarray:
    """Return what a rigid or affine transform of SimpleITK does to points in RAS, ``(4, 4)``.

    Args:
        transform: with a matrix, a centre and a translation.
    """
    matrix, centre = np.reshape(transform.GetMatrix(), (3, 3)), np.array(transform.GetCenter())
    affine = np.eye(4)
    affine[:3, :3] = FLIP @ matrix @ FLIP
    affine[:3, 3] = FLIP @ (centre + np.array(transform.GetTranslation()) - matrix @ centre)
    return affine


@dataclass(frozen=True, eq=False)
class _Pair:
    """A template, the mask where it is compared, and an image, as images of SimpleITK."""

    fixed: SimpleITK.Image
    mask: SimpleITK.Image
    moving: SimpleITK.Image

    def method(self, transform: Any, iterations: int, step: float, share: float = 1.0) -> Any:
        """Return a registration method of SimpleITK that starts from a transform and changes it."""
        import SimpleITK

        method = SimpleITK.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)  # sums of several threads differ from run to run
        method.SetMetricAsMattesMutualInformation(BINS)
        if share < 1:
            method.SetMetricSamplingStrategy(method.REGULAR)
            method.SetMetricSamplingPercentage(share, 1)
        method.SetMetricFixedMask(self.mask)
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            step, 0.02, iterations, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-5
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(transform, inPlace=True)
        return method

    def metric(self, transform: Any) -> float:
        """Return the metric of a transform over all voxels of the mask."""
        try:
            return float(self.method(transform, 1, 1.0).MetricEvaluate(self.fixed, self.moving))
        except RuntimeError:  # the transform leads to where the image is not
            return NOTHING

    def follow(self, start: Any) -> tuple[float, Any]:
        """Return the metric of the affine transform to which a rigid one leads, and that transform."""
        import SimpleITK

        rigid = SimpleITK.Euler3DTransform(start)
        affine = SimpleITK.AffineTransform(3)
        try:
            method = self.method(rigid, 60, 4.0)
            method.SetShrinkFactorsPerLevel([2])
            method.SetSmoothingSigmasPerLevel([4])
            method.Execute(self.fixed, self.moving)
            affine.SetMatrix(rigid.GetMatrix())
            affine.SetCenter(rigid.GetCenter())
            affine.SetTranslation(rigid.GetTranslation())
            method = self.method(affine, 60, 2.0, share=0.5)
            method.SetShrinkFactorsPerLevel([2, 1])
            method.SetSmoothingSigmasPerLevel([4, 0])
            method.Execute(self.fixed, self.moving)
        except RuntimeError:
            return NOTHING, affine
        return self.metric(affine), affine


def _moments(pair: _Pair) -> Any:
    """Return the shift that brings the centres of mass together, as a rigid transform."""
    import SimpleITK

    kind = SimpleITK.CenteredTransformInitializerFilter.MOMENTS
    still = SimpleITK.Euler3DTransform()
    return SimpleITK.Euler3DTransform(SimpleITK.CenteredTransformInitializer(pair.fixed, pair.moving, still, kind))


def _other_starts(first: Any) -> dict[str, Any]:
    import SimpleITK

    starts = {}
    for shift, turn in itertools.product(SHIFTS, TURNS):
        if shift == 0 and not any(turn):
            continue
        matrix = FLIP @ Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ FLIP
        start = SimpleITK.Euler3DTransform(first)
        start.SetMatrix(matrix.ravel().tolist())
        start.SetTranslation(np.add(first.GetTranslation(), (0, 0, shift)).tolist())
        starts[f"turned {turn} degrees, {shift:.0f} mm up"] = start
    return starts


def _prepared(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, coarse = resample_coarsely(np.asarray(voxels, dtype=np.float32), affine, STEP)
    low = float(values.min())
    content = values[values > low]
    high = float(np.percentile(content, BRIGHTEST)) if content.size else low
    if not high > low:
        raise ValueError("the image has one value everywhere, so nothing can be found in it; give another image")
    return ((np.minimum(values, high) - low) * (100 / (high - low))).astype(np.float32), coarse


def register(voxels: np.ndarray, affine: np.ndarray, template: Template) -> Registration:
    """Return where a template lies in an image of a head, with its skull or without it.

    Both are compared on grids of 3 mm by mutual information, in and around the template's brain alone, so that what is
    outside a brain does not count: first rigidly, from where the centres of mass meet, then affinely. If that does not
    lead to a metric of -0.40 or better, the best three of 26 other starts are followed.

    Args:
        voxels: ``(X, Y, Z)``, finite.
        affine: ``(4, 4)``, voxels to mm, RAS, with any rotation, shear and order of axes.
        template: the template.

    Raises:
        ValueError: if the image has one value everywhere.
        ModuleNotFoundError: if SimpleITK is not installed.

    Cost:
        On one thread; the same image gives the same result.

    References:
        D. Mattes, D. Haynor, H. Vesselle, T. Lewellen, W. Eubank, "PET-CT Image Registration in the Chest Using
        Free-form Deformations", IEEE TMI 22, 2003, doi:10.1109/TMI.2003.809072; B. Lowekamp, D. Chen, L. Ibáñez,
        D. Blezek, "The Design of SimpleITK", Frontiers in Neuroinformatics 7, 2013, doi:10.3389/fninf.2013.00045.
    """
    values, coarse = _prepared(voxels, affine)
    near = ndimage.binary_dilation(template.brain, iterations=MARGIN).astype(np.uint8)
    own = template.voxels * np.float32(100 / template.voxels.max())
    pair = _Pair(to_sitk(own, template.affine), to_sitk(near, template.affine), to_sitk(values, coarse))
    first = _moments(pair)
    found = {"moments": pair.follow(first)}
    starts = 1
    if found["moments"][0] > GOOD:
        others = _other_starts(first)
        metrics = {name: pair.metric(start) for name, start in others.items()}
        found |= {name: pair.follow(others[name]) for name in sorted(metrics, key=lambda name: metrics[name])[:KEPT]}
        starts += len(others)
    name = min(found, key=lambda one: found[one][0])
    metric, transform = found[name]
    matrix = from_sitk(transform)
    brain = apply(matrix, apply(template.affine, np.argwhere(template.brain).astype(float)))
    places = apply(np.linalg.inv(affine), brain)
    inside = ((places >= -0.5) & (places <= np.array(voxels.shape) - 0.5)).all(axis=1)
    there = ndimage.map_coordinates(values, apply(np.linalg.inv(coarse), brain).T, order=1, mode="nearest")
    likeness = np.corrcoef(there[inside], template.voxels[template.brain][inside])[0, 1] if inside.sum() > 1 else 0.0
    return Registration(matrix, metric, name, starts, float(inside.mean()), float(np.nan_to_num(likeness)))
