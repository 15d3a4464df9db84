"""What the tables of an evaluation say: averages with intervals, worst cases, agreement of volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2000
LIMIT = 1.96
"""Standard deviations from the bias to a limit of agreement: 95 % of normal differences lie between the two."""
BEST = {"dice": 1.0, "nsd": 1.0, "iou": 1.0, "voe": 0.0, "rvd": 0.0, "mean_surface_distance": 0.0, "hd95": 0.0}
"""The value of each metric that is perfect; the worst is the one farthest from it."""
TOLERANCE = "surface_tolerance_mm"
"""Entry of ``metrics.json`` that holds the tolerance of the normalised surface Dice, ``nsd``."""


@dataclass(frozen=True)
class Summary:
    """A metric of a class over all cases that have it.

    Args:
        n: number of cases.
        mean: their mean.
        interval: see :func:`bootstrap_interval`.
        median: their median.
        worst: the value farthest from the best.
        worst_case: the case that has it.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None
    median: float
    worst: float
    worst_case: str


@dataclass(frozen=True)
class Agreement:
    """How far two measurements of the same things differ.

    Args:
        n: number of pairs.
        bias: mean of the differences.
        low: lower limit of agreement; nan for a single pair.
        high: upper limit of agreement.
    """

    n: int
    bias: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    r"""Return the 95 % percentile bootstrap interval of a mean.

    From n values, n are drawn with replacement, ``resamples`` times; the interval goes from the 2.5th to the 97.5th
    percentile of the means.

    Args:
        values: one per case.
        resamples: how often.
        seed: of the draws.

    Returns:
        Its ends; ``None`` for fewer than two values, which cannot be resampled; of equal values that value twice.

    Cost:
        n times ``resamples`` numbers.

    Example:
        >>> bootstrap_interval([0.5, 0.5, 0.5])
        (0.5, 0.5)

    References:
        B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentile interval).
    """
    if len(values) < 2:
        return None
    if min(values) == max(values):  # whose means would differ by rounding
        return float(values[0]), float(values[0])
    found = bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=resamples,
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(seed),  # as SciPy before 1.15 calls it, too
    )
    low, high = found.confidence_interval
    return float(low), float(high)


def summarise(metric: str, values: Sequence[float], cases: Sequence[str]) -> Summary | None:
    """Summarise one metric of one class.

    Args:
        metric: its name, a key of ``BEST``.
        values: one per case, nan where it has none.
        cases: names of the cases.

    Returns:
        The summary over the values that are none nan, ``None`` if there is none.

    Example:
        >>> summarise("hd95", [1.0, 4.0, 1.0], ["a", "b", "c"]).worst_case
        'b'
    """
    pairs = [(value, case) for value, case in zip(values, cases, strict=True) if not math.isnan(value)]
    if not pairs:
        return None
    numbers = [value for value, _ in pairs]
    worst, case = max(pairs, key=lambda pair: abs(pair[0] - BEST[metric]))
    mean, median = float(np.mean(numbers)), float(np.median(numbers))
    return Summary(len(pairs), mean, bootstrap_interval(numbers), median, worst, case)


def bland_altman(reference: Sequence[float], prediction: Sequence[float]) -> Agreement:
    r"""Measure the agreement of two measurements.

    With d the differences, prediction minus reference, and s their sample standard deviation,

    .. math:: \mathrm{bias} = \bar d, \qquad \mathrm{limits} = \bar d \pm 1.96\, s

    Args:
        reference: the first measurement.
        prediction: the second measurement of the same, at least one.

    Example:
        >>> bland_altman([1.0, 2.0, 3.0], [1.0, 2.0, 6.0]).bias
        1.0

    References:
        J. M. Bland, D. G. Altman, "Statistical methods for assessing agreement between two methods of clinical
        measurement", The Lancet 327 (1986).
    """
    differences = np.asarray(prediction, dtype=float) - np.asarray(reference, dtype=float)
    bias = float(differences.mean())
    spread = LIMIT * float(differences.std(ddof=1)) if len(differences) > 1 else math.nan
    return Agreement(len(differences), bias, bias - spread, bias + spread)


def rank(value: float, sorted_values: Sequence[float]) -> int:
    """Return how many values are smaller.

    Args:
        value: the value.
        sorted_values: the others, ascending.

    Example:
        >>> rank(2.0, [1.0, 2.0, 3.0])
        1
    """
    return int(np.searchsorted(np.asarray(sorted_values), value, side="left"))
