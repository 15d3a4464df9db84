"""The difference of two networks, with an interval that counts the cases and the trainings as drawn by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from custom_networks.workflow.report.statistics import bootstrap_interval

LEVEL = 0.95

Scores = Mapping[tuple[int, int], Mapping[str, float]]
"""Of one network, by fold and seed the score of every patient."""


@dataclass(frozen=True)
class Difference:
    """What two networks differ by.

    Args:
        mean: of the second minus the first, over patients, seeds and folds.
        interval: 95 % interval of it for patients and trainings drawn anew, see :func:`interval_of_mean`; ``None``
            where there is one training of each, or one patient.
        of_patients: 95 % interval for patients drawn anew and these very trainings; ``None`` for one patient.
        wins: patients whose mean over the seeds is better with the second.
        losses: patients with whom it is worse.
        patients: their number.
        seeds: trainings of each network per fold.
    """

    mean: float
    interval: tuple[float, float] | None
    of_patients: tuple[float, float] | None
    wins: int
    losses: int
    patients: int
    seeds: int

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def interval_of_mean(blocks: Sequence[np.ndarray], level: float = LEVEL) -> tuple[float, float] | None:
    r"""Return the interval of the mean of differences between two networks, trainings and patients drawn by chance.

    In one fold, the difference with seed s in patient c is :math:`d_{sc} = \mu + a_s + b_c + e_{sc}`, a two-way layout
    of random effects. With the mean squares of S seeds, C patients and the rest,

    .. math:: \widehat{\mathrm{Var}}(\bar d) = \frac{\max(M_S, M_E) + \max(M_C, M_E) - M_E}{S\,C},

    where :math:`\max` keeps the estimated variances of seeds and patients from being negative. Folds have trainings
    and patients of their own: their means are weighted by their patients. The interval is that of Student's t, whose
    degrees of freedom follow from the mean squares by Satterthwaite's rule.

    Args:
        blocks: one array ``(S, C)`` of differences per fold, S at least 2 and C at least 2.
        level: its coverage.

    Returns:
        Its ends, within -1 and 1, which no difference of two scores between 0 and 1 passes; ``None`` where a fold has
        one seed or one patient, from which nothing follows of others.

    Example:
        >>> interval_of_mean([np.array([[0.1, 0.2, 0.3]])])

    References:
        F. E. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2
        (1946); S. L. Hillis, "A comparison of denominator degrees of freedom methods for multiple observer ROC
        analysis", Statistics in Medicine 26 (2007), where readers are what trainings are here.
    """
    if any(min(block.shape) < 2 for block in blocks):
        return None
    total = sum(block.shape[1] for block in blocks)
    mean = sum(float(block.mean()) * block.shape[1] for block in blocks) / total
    variance, spread = 0.0, 0.0
    for block in blocks:
        seeds, patients = block.shape
        weight = (patients / total) ** 2 / (seeds * patients)
        rows, columns = block.mean(1, keepdims=True), block.mean(0, keepdims=True)
        of_seeds = patients * float(rows.var(ddof=1))
        of_patients = seeds * float(columns.var(ddof=1))
        free = (seeds - 1) * (patients - 1)
        rest = float(((block - rows - columns + block.mean()) ** 2).sum()) / free
        terms = [(of_seeds, seeds - 1)] * (of_seeds > rest) + [(of_patients, patients - 1)] * (of_patients > rest)
        if len(terms) == 1:
            variance += weight * terms[0][0]
        else:
            terms.append((rest, free))
            variance += weight * (of_seeds + of_patients - rest if len(terms) == 3 else rest)
        spread += sum((weight * square) ** 2 / degrees for square, degrees in terms)
    if variance <= 0:
        return mean, mean
    half = math.sqrt(variance) * float(t.ppf((1 + level) / 2, variance**2 / spread))
    return max(mean - half, -1.0), min(mean + half, 1.0)


def difference(first: Scores, second: Scores) -> Difference:
    """Compare two networks by the same patients.

    Args:
        first: what the second is compared to.
        second: has the same folds, seeds and patients; a patient whose score is nan in either is left out.

    Raises:
        ValueError: if they have not, or a fold has no patient left.
    """
    if set(first) != set(second):
        raise ValueError("the two networks have trainings of other folds and seeds; compare the same ones")
    blocks, seeds = [], 0
    for fold in sorted({fold for fold, _ in first}):
        trainings = sorted(key for key in first if key[0] == fold)
        names = sorted(first[trainings[0]])
        if any(sorted(own[key]) != names for own in (first, second) for key in trainings):
            raise ValueError(f"the trainings of fold {fold} have scores of other patients; compare the same ones")
        values = np.array([[second[key][name] - first[key][name] for name in names] for key in trainings])
        values = values[:, ~np.isnan(values).any(0)]
        if values.shape[1] == 0:
            raise ValueError(f"no patient of fold {fold} has a score with both networks; nothing can be compared")
        blocks.append(values)
        seeds = len(trainings)
    means = np.concatenate([block.mean(0) for block in blocks])
    return Difference(
        mean=float(means.mean()),
        interval=interval_of_mean(blocks),
        of_patients=bootstrap_interval(means.tolist()),
        wins=int((means > 0).sum()),
        losses=int((means < 0).sum()),
        patients=len(means),
        seeds=seeds,
    )
