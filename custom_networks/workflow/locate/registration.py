"""Affine registration of an image of a head with a template brain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
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
DARKEST, SPARSELY = 0.5, 3
"""Percentile of what is above the lowest value, of every third voxel along each axis; where the lowest is farther below
it than the brightest is above, it is what an image was padded with."""
MARGIN = 2
"""Voxels around the template's brain that are compared, too: an outline says where a brain ends."""
TURNS = [(0, 0, 0), (-20, 0, 0), (20, 0, 0), (0, -20, 0), (0, 20, 0), (0, 0, -20), (0, 0, 20), (-40, 0, 0), (40, 0, 0)]
"""Nine orientations to start from, degrees about the axes to the right, to the front and up."""
SHIFTS = (0.0, 30.0, 60.0)
"""Three shifts to start from, mm up from the centre of mass, which a neck draws down."""
NOTHING = 0.0
"""Metric where nothing of the image is compared."""
KEPT = 4
"""Starts that are followed: those with the best metric; the best of what they lead to is made affine."""
COARSE, FINE = (2, 4.0, 1.0), (1, 0.0, 0.5)
"""Levels: factor of the grid, mm of smoothing, share of the voxels that is looked at."""
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

    def method(self, transform: Any, shrink: int = 1, smooth: float = 0.0, share: float = 1.0) -> Any:
        """Return a registration method of SimpleITK that starts from a transform and changes it."""
        import SimpleITK

        method = SimpleITK.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        if share < 1:
            method.SetMetricSamplingStrategy(method.REGULAR)
            method.SetMetricSamplingPercentage(share, 1)
        method.SetMetricFixedMask(self.mask)
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetShrinkFactorsPerLevel([shrink])
        method.SetSmoothingSigmasPerLevel([smooth])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(transform, inPlace=True)
        return method

    def metric(self, transform: Any) -> float:
        """Return the metric of a transform over all voxels of the mask."""
        try:
            return float(self.method(transform).MetricEvaluate(self.fixed, self.moving))
        except RuntimeError:  # the transform leads to where the image is not
            return NOTHING

    def rigid(self, start: Any) -> tuple[float, Any]:
        """Return the rigid transform that a start leads to, after its metric; it takes large steps on a coarse grid."""
        import SimpleITK

        transform = SimpleITK.Euler3DTransform(start)
        method = self.method(transform, *COARSE)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=4.0, minStep=0.02, numberOfIterations=60, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        try:
            method.Execute(self.fixed, self.moving)
        except RuntimeError:
            return NOTHING, transform
        return self.metric(transform), transform

    def affine(self, rigid: Any) -> tuple[float, Any]:
        """Return the affine transform that a rigid one leads to, after its metric.

        Each step is searched along the gradient: steps of a given length walk out of the optimum of twelve parameters.
        """
        import SimpleITK

        transform = SimpleITK.AffineTransform(3)
        transform.SetMatrix(rigid.GetMatrix())
        transform.SetCenter(rigid.GetCenter())
        transform.SetTranslation(rigid.GetTranslation())
        try:
            for level, iterations in ((COARSE, 15), (FINE, 10)):
                method = self.method(transform, *level)
                method.SetOptimizerAsGradientDescentLineSearch(
                    learningRate=1.0,
                    numberOfIterations=iterations,
                    lineSearchUpperLimit=3,
                    lineSearchMaximumIterations=8,
                    estimateLearningRate=method.EachIteration,
                    maximumStepSizeInPhysicalUnits=1.0,
                )
                method.SetOptimizerScalesFromPhysicalShift()
                method.Execute(self.fixed, self.moving)
        except RuntimeError:
            return NOTHING, transform
        return self.metric(transform), transform


_one_at_a_time = Lock()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let SimpleITK use one thread: the sums of several differ from run to run. One registration does so at a time."""
    import SimpleITK

    with _one_at_a_time:
        threads = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        try:
            yield
        finally:
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


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
    values, coarse = resample_coarsely(_without_padding(np.asarray(voxels, dtype=np.float32)), affine, STEP)
    low = float(values.min())
    content = values[values > low]
    high = float(np.percentile(content, BRIGHTEST)) if content.size else low
    if not high > low:
        raise ValueError("the image has one value everywhere, so nothing can be found in it; give another image")
    return ((np.minimum(values, high) - low) * (100 / (high - low))).astype(np.float32), coarse


def _without_padding(voxels: np.ndarray) -> np.ndarray:
    """Return an image whose lowest value is not far below all others, or the head would be one shade of its range."""
    few = voxels[::SPARSELY, ::SPARSELY, ::SPARSELY]
    low = float(voxels.min())
    content = few[few > low]
    if not content.size:
        return voxels
    darkest, high = (float(n) for n in np.percentile(content, (DARKEST, BRIGHTEST)))
    return np.maximum(voxels, darkest) if darkest - low > high - darkest else voxels


def _search(pair: _Pair) -> tuple[float, Any, str, int]:
    """Return the best metric, its affine transform, the start that led there, and the number of starts."""
    first = _moments(pair)
    metric, transform = pair.affine(pair.rigid(first)[1])
    if metric <= GOOD:
        return metric, transform, "moments", 1
    others = _other_starts(first)
    metrics = {name: pair.metric(start) for name, start in others.items()}
    followed = {name: pair.rigid(others[name]) for name in sorted(metrics, key=lambda name: metrics[name])[:KEPT]}
    name = min(followed, key=lambda one: followed[one][0])
    other, its_transform = pair.affine(followed[name][1])
    if other < metric:
        return other, its_transform, name, 1 + len(others)
    return metric, transform, "moments", 1 + len(others)


def register(voxels: np.ndarray, affine: np.ndarray, template: Template) -> Registration:
    """Return where a template lies in an image of a head, with its skull or without it.

    Both are compared on grids of 3 mm by mutual information, in and around the template's brain alone, so that what is
    outside a brain does not count: first rigidly, from where the centres of mass meet, then affinely. If that does not
    lead to a metric of -0.40 or better, the best four of 26 other starts are followed.

    Args:
        voxels: ``(X, Y, Z)``, finite.
        affine: ``(4, 4)``, voxels to mm, RAS, with any rotation, shear and order of axes.
        template: the template.

    Raises:
        ValueError: if the image has one value everywhere.
        ModuleNotFoundError: if SimpleITK is not installed.

    Cost:
        One to two seconds of one processor, about twice that where other starts are tried. The same image gives the
        same bits, which is why one thread does all.

    References:
        D. Mattes, D. Haynor, H. Vesselle, T. Lewellen, W. Eubank, "PET-CT Image Registration in the Chest Using
        Free-form Deformations", IEEE TMI 22, 2003, doi:10.1109/TMI.2003.809072; B. Lowekamp, D. Chen, L. Ibáñez,
        D. Blezek, "The Design of SimpleITK", Frontiers in Neuroinformatics 7, 2013, doi:10.3389/fninf.2013.00045.
    """
    values, coarse = _prepared(voxels, affine)
    near = ndimage.binary_dilation(template.brain, iterations=MARGIN).astype(np.uint8)
    own = template.voxels * np.float32(100 / template.voxels.max())
    pair = _Pair(to_sitk(own, template.affine), to_sitk(near, template.affine), to_sitk(values, coarse))
    with _one_thread():
        metric, transform, start, starts = _search(pair)
    matrix = from_sitk(transform)
    brain = apply(matrix, apply(template.affine, np.argwhere(template.brain).astype(float)))
    places = apply(np.linalg.inv(affine), brain)
    inside = ((places >= -0.5) & (places <= np.array(voxels.shape) - 0.5)).all(axis=1)
    there = ndimage.map_coordinates(values, apply(np.linalg.inv(coarse), brain).T, order=1, mode="nearest")
    likeness = np.corrcoef(there[inside], template.voxels[template.brain][inside])[0, 1] if inside.sum() > 1 else 0.0
    return Registration(matrix, metric, start, starts, float(inside.mean()), float(np.nan_to_num(likeness)))
