"""A suspicion: cases of neighbouring numbers whose labels are so alike in volume that they may be of one patient."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import pearsonr, spearmanr

from custom_networks.workflow.data.patients import PATIENTS

FEWEST_PAIRS = 12
LEAST_CORRELATION = 0.6
# of each of the two ways to take neighbours in pairs, so that both together have twice that
LEVEL = 0.0005
# places in the order of the numbers: of other patients, but of the same site or age where the numbers follow these
APART = (2, 3, 4)
LEAST_DIFFERENCE = 0.4

Pair = tuple[str, str]


class Neighbours(NamedTuple):
    """Pairs of cases that look like one patient each.

    Args:
        pairs: their names, of numbers that follow each other.
        correlation: of the logarithms of their volumes.
        apart: that of cases a few places apart.
    """

    pairs: list[Pair]
    correlation: float
    apart: float

    def divided_by(self, training: Collection[str], validation: Collection[str]) -> bool:
        """Tell whether a split has the two cases of a pair on either side.

        Args:
            training: the cases to train on.
            validation: the cases to validate on.
        """
        return any(
            (one in training and other in validation) or (one in validation and other in training)
            for one, other in self.pairs
        )

    @property
    def what(self) -> str:
        """What they look like."""
        one, other = self.pairs[0]
        return f"{one} and {other} and {len(self.pairs) - 1} more pairs look like one patient each"

    @property
    def why(self) -> str:
        """Why, and what to do."""
        return (
            f"the volumes of neighbouring numbers correlate by {self.correlation:.2f}, those of cases 2 to 4 places "
            f"apart by {self.apart:.2f}; write which case is of which patient to {PATIENTS}"
        )


def alike_neighbours(volumes: Mapping[str, float]) -> Neighbours | None:
    """Return the pairs of neighbouring numbers that look like one patient each, ``None`` if nothing speaks for it.

    Neighbours are cases whose names differ in one number, by one. They are taken in pairs in two ways, from odd numbers
    on and from even ones, since two scans of a patient are 1 and 2, 3 and 4, or 0 and 1, 2 and 3. Pairs of one way are
    suspected if there are 12 or more, the correlation of the logarithms of their volumes is above 0.6 and could be
    chance in one of 2000 cases (one-sided), by Pearson and by Spearman, and it is at least 0.4 above that of cases 2 to
    4 places apart, which is high where the numbers follow site, age or disease.

    Args:
        volumes: volume of what is labelled by the name of the case, in any unit; cases without any are left out.

    Example:
        >>> sizes = [2.0, 3.5, 2.9, 4.1, 3.0, 2.2, 3.9, 2.5, 3.3, 4.4, 2.7, 3.7]
        >>> sides = {f"hip_{2 * k + side}": size * (1 + side / 50) for k, size in enumerate(sizes) for side in (1, 2)}
        >>> found = alike_neighbours(sides)
        >>> len(found.pairs), found.pairs[0]
        (12, ('hip_1', 'hip_2'))
        >>> alike_neighbours({f"hip_{k}": size for k, size in enumerate(sizes * 2)})
    """
    logs = {name: math.log(volume) for name, volume in volumes.items() if volume > 0}
    series = _series(logs)
    suspected: list[tuple[float, list[Pair]]] = []
    for first in (1, 0):
        pairs = [
            (own[number], own[number + 1])
            for own in series
            for number in sorted(own)
            if number % 2 == first and number + 1 in own
        ]
        correlation, chance = _correlation(logs, pairs)
        if correlation > LEAST_CORRELATION and chance <= LEVEL:
            suspected.append((correlation, pairs))
    if not suspected:
        return None
    order = [own[number] for own in series for number in sorted(own)]
    apart, _ = _correlation(logs, [pair for step in APART for pair in zip(order, order[step:], strict=False)])
    found = [(own, pairs) for own, pairs in suspected if own - max(0.0, apart) >= LEAST_DIFFERENCE]
    return Neighbours([pair for _, pairs in found for pair in pairs], max(found)[0], apart) if found else None


def _series(names: Iterable[str]) -> list[dict[int, str]]:
    """Return the names by their number, one dictionary for all that differ in nothing else.

    Of several numbers in a name it is the last that is not the same in all names with the same words.
    """
    by_words: dict[tuple[str, ...], list[list[str]]] = {}
    for name in sorted(names):
        parts = re.split(r"(\d+)", name)
        by_words.setdefault(tuple(parts[::2]), []).append(parts)
    series: dict[tuple[str, ...], dict[int, str]] = {}
    for members in by_words.values():
        changing = [place for place in range(1, len(members[0]), 2) if len({parts[place] for parts in members}) > 1]
        for parts in members if changing else ():
            rest = (*parts[: changing[-1]], "", *parts[changing[-1] + 1 :])
            series.setdefault(rest, {})[int(parts[changing[-1]])] = "".join(parts)
    return list(series.values())


def _correlation(logs: Mapping[str, float], pairs: Sequence[Pair]) -> tuple[float, float]:
    """Return the lower of Pearson's and Spearman's correlation, and the higher of their one-sided p-values.

    Of fewer than 12 pairs, or where all of one side are equal, that is none, by chance.
    """
    if len(pairs) < FEWEST_PAIRS:
        return 0.0, 1.0
    one, other = np.array([[logs[name] for name in pair] for pair in pairs]).T
    if not np.ptp(one) or not np.ptp(other):
        return 0.0, 1.0
    found = [test(one, other, alternative="greater") for test in (pearsonr, spearmanr)]
    return min(float(test.statistic) for test in found), max(float(test.pvalue) for test in found)
