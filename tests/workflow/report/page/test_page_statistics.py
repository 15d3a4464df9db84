"""Averages, intervals and agreements against slow references and sums done by hand."""

from __future__ import annotations

import math
import re
import statistics

import numpy as np
import pytest
from scipy import stats

from custom_networks.workflow.report.page.charts import distribution, nice_ticks
from custom_networks.workflow.report.page.statistics import bland_altman, bootstrap_interval, rank, summarise

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


def test_bootstrap_is_that_of_scipy():
    want = stats.bootstrap((VALUES,), np.mean, method="percentile", n_resamples=20000, rng=1).confidence_interval
    assert bootstrap_interval(VALUES, resamples=20000) == pytest.approx((want.low, want.high), abs=0.005)


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


@pytest.mark.parametrize(("low", "high"), [(0.81, 0.93), (0, 0), (5, 5), (-3.2, 700), (1e-6, 3e-6), (-1, -0.2)])
def test_ticks_enclose_what_they_scale(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(("value", "place"), [(1.0, "inside"), (2.4, "inside"), (60.0, "right"), (-9.0, "left")])
def test_a_value_far_out_does_not_press_the_others_together(value, place):
    chart = str(distribution(value, [0.5, 1.0, 1.5, 2.0], "#56b4e9", "title"))
    xs = [float(pair.split(",")[0]) for pair in re.search(r'points="([^"]*)"', chart)[1].split()]
    assert max(xs) - min(xs) > 100
    assert ('class="head"' in chart) is (place == "inside")
    start, step = map(float, re.search(r'd="M([\d.]+) 1[6V](?:h(-?\d+))?', chart).groups(default="0"))
    assert {"inside": step == 0, "right": step > 0 and start > max(xs), "left": step < 0 and start < min(xs)}[place]
