"""The scale of a chart holds what is on it, and a value far out does not press the others together."""

from __future__ import annotations

import re

import pytest

from custom_networks.workflow.report.page.charts import distribution, nice_ticks


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
