"""What nnU-Net and this project's bundles would choose for a data set: spacing, strides, patch, folds, epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from custom_networks.workflow.data.folds import FOLDS

ANISOTROPY = 3.0
COARSE_PERCENTILE = 10
# a step leaves at least so many voxels per axis, and goes along axes whose spacing is within so much of the finest
LEAST_VOXELS = 4
ALONE = 3
SPACING_RATIO = 2.0
MAX_VOXELS = 64**3
MIN_VOXELS = 16**3
MOST_EPOCHS, FEWEST_EPOCHS = 500, 10
VALIDATIONS = 10
# share of foreground below which patches are drawn around it more often, and how often
SMALL_FOREGROUND, SMALL_RATIO = 0.01, 0.75

Triple = tuple[int, ...]


def target_spacing(spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[list[float], bool]:
    """Return the spacing to resample to, and whether it is anisotropic by nnU-Net's rule.

    The median per axis; where the coarsest axis is more than three times as coarse as the others and has less than a
    third of their voxels, the 10th percentile of that axis, but nothing finer than the others, so that few images lose
    slices to resampling and none is stretched to many more.

    Args:
        spacings: mm per voxel of each image, axes in one order.
        shapes: voxels of each image.

    Example:
        >>> target_spacing([(1, 1, 8), (1, 1, 10), (1, 1, 10)], [(200, 200, 12)] * 3)
        ([1.0, 1.0, 8.4], True)
    """
    sizes = np.asarray(spacings, dtype=float)
    spacing, voxels = np.median(sizes, axis=0), np.median(np.asarray(shapes), axis=0)
    coarse = int(spacing.argmax())
    others = [axis for axis in range(3) if axis != coarse]
    anisotropic = bool(
        spacing[coarse] > ANISOTROPY * spacing[others].max() and voxels[coarse] * ANISOTROPY < voxels[others].min()
    )
    if anisotropic:
        spacing[coarse] = max(np.percentile(sizes[:, coarse], COARSE_PERCENTILE), spacing[others].max())
    return [float(f"{size:.6g}") for size in spacing], anisotropic


def down_sampling(
    factors: Sequence[int],
    kernel: int,
    spacing: Sequence[float],
    size: Sequence[float],
    least: int = LEAST_VOXELS,
) -> tuple[list[Triple], list[Triple]]:
    """Return the strides per axis of each step of a network, and the kernels before each of them and after the last.

    As in nnU-Net a step goes along the axes whose spacing is within a factor of two of the finest that can still be
    halved, an axis that would be left with fewer than four voxels is not halved, and a kernel is 1 along an axis until
    its spacing is within a factor of two of the finest; the last kernel is whole.

    Args:
        factors: strides of the network for isotropic data, 1 where a step is none.
        kernel: its kernel.
        spacing: mm per voxel of the image.
        size: voxels of the patch.
        least: in place of the four voxels.

    Example:
        >>> down_sampling([2, 2], 3, (1.5, 1.5, 10), (160, 160, 10))
        ([(2, 2, 1), (2, 2, 1)], [(3, 3, 1), (3, 3, 1), (3, 3, 3)])
        >>> down_sampling([2, 2], 3, (1, 1, 1), (40, 56, 12))
        ([(2, 2, 2), (2, 2, 1)], [(3, 3, 3), (3, 3, 3), (3, 3, 3)])
    """
    now, left = list(spacing), list(size)
    whole, strides, kernels = [False] * len(now), [], []
    for factor in factors:
        whole = [done or mm < SPACING_RATIO * min(now) for done, mm in zip(whole, now, strict=True)]
        kernels.append(tuple(kernel if done else 1 for done in whole))
        can = [axis for axis in range(len(now)) if left[axis] >= factor * least]
        finest = min((now[axis] for axis in can), default=0.0)
        step = tuple(factor if axis in can and now[axis] < SPACING_RATIO * finest else 1 for axis in range(len(now)))
        now = [mm * n for mm, n in zip(now, step, strict=True)]
        left = [voxels / n for voxels, n in zip(left, step, strict=True)]
        strides.append(step)
    return strides, [*kernels, (kernel,) * len(now)]


def deepest(spacing: Sequence[float], size: Sequence[float], least: int = LEAST_VOXELS) -> int:
    """Return how many steps there are until no axis can be halved any more, by the rule of :func:`down_sampling`.

    As in nnU-Net a step along one axis alone is worth its while only where that has three times the voxels to be left.

    Args:
        spacing: mm per voxel of the image.
        size: voxels of the patch.
        least: voxels that are left along each axis.

    Example:
        >>> deepest((1, 1, 1), (36, 50, 35)), deepest((1.5, 1.5, 10), (216, 256, 9))
        (3, 5)
    """
    steps, left = 0, list(size)
    while True:
        step = down_sampling([2] * (steps + 1), 1, spacing, size, least)[0][-1]
        halved = [voxels for voxels, n in zip(left, step, strict=True) if n > 1]
        if not halved or (len(halved) == 1 and halved[0] < ALONE * least):
            return steps
        steps, left = steps + 1, [voxels / n for voxels, n in zip(left, step, strict=True)]


def largest_patch(median: Sequence[int], spacing: Sequence[float], max_voxels: float) -> list[float]:
    """Return the size of the largest cube in mm, cut to the median image, that has at most so many voxels.

    An image of no more voxels is taken whole.

    Args:
        median: voxels of the median image.
        spacing: mm per voxel.
        max_voxels: the bound.

    Example:
        >>> largest_patch((36, 50, 35), (1, 1, 1), 64**3)
        [36.0, 50.0, 35.0]
        >>> [round(n) for n in largest_patch((216, 256, 10), (1.5, 1.5, 10), 64**3)]
        [162, 162, 10]
    """
    # in the order in which a growing cube reaches the borders of the image
    axes = sorted(range(len(median)), key=lambda axis: median[axis] * spacing[axis])
    edge, size = 0.0, [float(n) for n in median]
    for position, axis in enumerate(axes):
        rest = axes[position:]
        cut = math.prod(median[other] for other in axes[:position])
        # the root of a cube is not exact, and the patch is rounded down
        edge = round((max_voxels / cut * math.prod(spacing[other] for other in rest)) ** (1 / len(rest)), 6)
        if edge <= median[axis] * spacing[axis]:
            return [edge / spacing[i] if i in rest else size[i] for i in range(len(size))]
    return size


def rounded_patch(size: Sequence[float], median: Sequence[int], divisor: Sequence[int]) -> list[int]:
    """Return a patch that the network takes: up where it covers the image, else down.

    Args:
        size: what :func:`largest_patch` returns.
        median: voxels of the median image.
        divisor: what must divide the patch.

    Example:
        >>> rounded_patch([162.2, 162.2, 10.0], (216, 256, 10), (4, 4, 1))
        [160, 160, 10]
    """
    return [
        math.ceil(whole / part) * part if n >= whole else max(1, math.floor(n / part)) * part
        for n, whole, part in zip(size, median, divisor, strict=True)
    ]


def folds_of(groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return five folds, a group as a whole in one of them: that of its rank modulo five.

    Args:
        groups: cases that belong together.

    Example:
        >>> folds_of([["a1", "a2"], ["b1"], ["c1"], ["d1"], ["e1"], ["f1"]])
        [['a1', 'a2', 'f1'], ['b1'], ['c1'], ['d1'], ['e1']]
    """
    return [sorted(name for group in groups[fold::FOLDS] for name in group) for fold in range(FOLDS)]


def schedule(steps: int, cases: int, batch_size: int) -> tuple[int, int]:
    """Return epochs, and epochs between two validations, for a number of steps; 10 to 500 epochs, 10 validations.

    Args:
        steps: steps of the whole training.
        cases: training cases, each of which gives one patch per epoch.
        batch_size: patches per step.

    Example:
        >>> schedule(3486, cases=16, batch_size=2)
        (436, 43)
    """
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(steps / math.ceil(cases / batch_size))))
    return epochs, max(1, epochs // VALIDATIONS)


def foreground_ratio(share: float, whole: bool, usual: float) -> float:
    """Return how often a patch is drawn around the foreground.

    Args:
        share: foreground voxels of all voxels.
        whole: whether a patch holds the whole median image, so that where it lies hardly matters.
        usual: what the bundle takes.

    Example:
        >>> foreground_ratio(0.001, whole=False, usual=0.5)
        0.75
    """
    return usual if whole or share >= SMALL_FOREGROUND else max(usual, SMALL_RATIO)
