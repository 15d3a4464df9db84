"""Averages, intervals and agreements against slow references and sums done by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from custom_networks.workflow.report.statistics import bland_altman, bootstrap_interval, rank, summarise

VALUES = [0.61, 0.72, 0.93, 0.55, 0.88, 0.9, 0.79]


def test_bootstrap_equals_a_slow_reference():
    """One mean after the other, and the percentile as the value between two of the sorted means."""
    generator = np.random.default_rng(3)
    means = []
    for _ in range(200):
        drawn = [VALUES[generator.integers(len(VALUES))] for _ in VALUES]
        means.append(sum(drawn) / len(drawn))
    means.sort()

    def percentile(share: float) -> float:
        low = math.floor(share * 199)
        return means[low] + (share * 199 - low) * (means[low + 1] - means[low])

    got = bootstrap_interval(VALUES, resamples=200, seed=3)
    assert got == pytest.approx((percentile(0.025), percentile(0.975)), rel=1e-12)


@pytest.mark.parametrize(("n", "ones"), [(10, 5), (40, 30), (100, 97)])
def test_the_interval_of_zeros_and_ones_is_that_of_the_binomial_distribution(n, ones):
    """The resampled sum is binomial with n draws of the share of ones: its quantiles are the ends, times 1 / n.

    Of the 40000 means a share of 0.025 +- 0.003 (four standard deviations) lies below the lower end.
    """
    low, high = bootstrap_interval([1.0] * ones + [0.0] * (n - ones), resamples=40000, seed=1)
    law = stats.binom(n, ones / n)
    for got, share in ((low, 0.025), (high, 0.975)):
        assert law.ppf(share - 0.003) <= round(got * n, 6) <= law.ppf(share + 0.003)
    assert low < ones / n < high


@pytest.mark.parametrize("value", [0.1, 0.7, 0.0, 12.3])
def test_equal_values_have_an_interval_of_no_width(value):
    assert bootstrap_interval([value] * 7) == (value, value)


def test_bootstrap_gives_the_same_twice_and_nothing_for_one_case():
    assert bootstrap_interval(VALUES) == bootstrap_interval(VALUES)
    assert bootstrap_interval([0.5]) is None


@pytest.mark.parametrize(
    ("metric", "values", "worst", "case"),
    [
        ("dice", [0.9, 0.4, 0.8], 0.4, "b"),
        ("hd95", [1.0, 2.0, 7.0], 7.0, "c"),
        ("rvd", [-0.5, 0.1, 0.4], -0.5, "a"),
        ("dice", [math.nan, 0.7, 0.8], 0.7, "b"),
    ],
)
def test_the_worst_is_farthest_from_perfect(metric, values, worst, case):
    summary = summarise(metric, values, ["a", "b", "c"])
    assert (summary.worst, summary.worst_case) == (worst, case)
    kept = [value for value in values if not math.isnan(value)]
    assert (summary.n, summary.mean) == (len(kept), pytest.approx(sum(kept) / len(kept)))
    assert summary.median == pytest.approx(statistics.median(kept))


def test_no_case_has_no_summary():
    assert summarise("dice", [math.nan], ["a"]) is None


def test_agreement_by_hand():
    """Differences 1, 2, 6: mean 3; squared deviations 4 + 1 + 9 over 2 are 7."""
    found = bland_altman([10, 20, 30], [11, 22, 36])
    assert (found.n, found.bias) == (3, 3.0)
    assert (found.low, found.high) == pytest.approx((3 - 1.96 * math.sqrt(7), 3 + 1.96 * math.sqrt(7)))


def test_a_single_pair_has_no_limits():
    found = bland_altman([1.0], [1.5])
    assert found.bias == 0.5
    assert math.isnan(found.low) and math.isnan(found.high)


def test_rank_counts_what_is_smaller():
    assert [rank(value, [1, 2, 2, 3]) for value in (0, 2, 2.5, 9)] == [0, 1, 3, 4]
