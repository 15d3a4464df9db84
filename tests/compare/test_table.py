"""The table of a comparison and its sentences."""

from __future__ import annotations

import math

import pytest

from custom_networks.compare.differences import Difference
from custom_networks.compare.picture import draw, front
from custom_networks.compare.table import Line, as_json, as_markdown, lines_of, scores_of, sentence


def row(case, name, dice, fold=0, seed=0, hd95=2.0):
    return {
        "fold": str(fold),
        "seed": str(seed),
        "case": case,
        "class": name,
        "dice": str(dice),
        "hd95": str(hd95),
        "nsd": "0.9",
    }


def found(mean, interval, seeds=3):
    return Difference(mean, interval, interval, 12, 8, 20, seeds)


def test_a_patient_is_scored_by_the_mean_of_the_cases():
    rows = [
        row(f"p{n}_{phase}", name, 0.1 * n + more, seed=seed)
        for seed in range(2)
        for n in (1, 2, 3)
        for phase, more in (("ED", 0.0), ("ES", 0.2))
        for name in ("LV", "RV")
    ]
    scores = scores_of(rows, {f"p{n}_{phase}": f"p{n}" for n in (1, 2, 3) for phase in ("ED", "ES")})
    assert set(scores) == {(0, 0), (0, 1)}
    assert scores[0, 1] == pytest.approx({"p1": 0.2, "p2": 0.3, "p3": 0.4})


def test_a_class_that_a_case_has_not_is_left_out_of_its_mean():
    rows = [row("a", "LV", 0.8), row("a", "RV", "nan"), row("b", "LV", 0.6), row("b", "RV", 0.4)]
    assert scores_of(rows, {"a": "a", "b": "b"})[0, 0] == pytest.approx({"a": 0.8, "b": 0.5})


def test_a_patient_without_structures_is_left_out_of_a_difference():
    """One network finds nothing where nothing is, which has no Dice; the other finds something, which has 0."""
    right = [row("a", "LV", 0.8, seed=seed) for seed in (0, 1)] + [row("b", "LV", "nan", seed=seed) for seed in (0, 1)]
    wrong = [{**one, "dice": "0.0"} if one["case"] == "b" else one for one in right]
    patients = {"a": "a", "b": "b"}
    assert math.isnan(scores_of(right, patients)[0, 0]["b"])
    first, second = lines_of({"right": right, "wrong": wrong}, {}, patients)
    assert first.dice == pytest.approx(0.8)
    assert second.dice == pytest.approx(0.4)
    assert second.difference.patients == 1


def test_lines_have_means_per_class_and_differences_to_the_first():
    rows = {
        name: [
            row(case, one, base + more, seed=seed, hd95="nan" if case == "b" else 3)
            for seed in range(2)
            for case, base in (("a", 0.5), ("b", 0.7))
            for one in ("LV", "RV")
        ]
        for name, more in (("first", 0.0), ("second", 0.1))
    }
    first, second = lines_of(rows, {"second": {"macs": 5}}, {"a": "a", "b": "b"})
    assert first.classes == pytest.approx({"LV": 0.6, "RV": 0.6})
    assert first.difference is None
    assert first.hd95 == 3
    assert second.difference.mean == pytest.approx(0.1)
    assert second.difference.wins == 2
    assert second.facts == {"macs": 5}
    assert first.interval == pytest.approx((0.5, 0.7))


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (found(0.02, (0.01, 0.03)), "b - a: +0.0200 (95 % +0.0100 to +0.0300): b is better"),
        (found(-0.02, (-0.03, -0.01)), "b - a: -0.0200 (95 % -0.0300 to -0.0100): b is worse"),
        (found(-0.002, (-0.005, 0.001)), "no difference is shown; one of up to 0.0050 cannot be excluded"),
        (
            found(0.02, None, seeds=1),
            "b - a: +0.0200: one training of each, so nothing follows for networks trained anew",
        ),
        (found(0.02, None), "b - a: +0.0200: one patient, so nothing follows"),
    ],
)
def test_a_sentence_says_no_more_than_the_interval(difference, text):
    assert text in sentence(Line("b", {}, 0.9, None, None, None, difference, {}), "a")


def test_the_table_has_a_cell_per_class_and_fact():
    facts = {
        "parameters": 1200,
        "macs": 2.5e9,
        "train_seconds": 61,
        "seconds_per_image": 0.5,
        "step_bytes": 3e6,
        "learning_rates": [0.001],
    }
    lines = [
        Line("a", {"LV": 0.9, "RV": None}, 0.9, (0.8, 0.95), 0.5, None, None, facts),
        Line("b", {"LV": 0.8, "RV": 0.7}, 0.75, None, None, 4.0, found(-0.15, (-0.2, -0.1)), {}),
    ]
    head, rule, first, second = as_markdown(lines).splitlines()
    assert head.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert (
        first
        == "| a | 0.9000 |  | 0.9000 (0.8000 to 0.9500) | 0.5000 |  |  |  | 1,200 | 2.50 | 61 | 0.50 | 3 | 0.001 |"
    )
    assert "-0.1500 (-0.2000 to -0.1000) | 12 / 8" in second
    assert as_json(lines)[0]["sentence"] == "a is what the others are compared to"


def test_the_front_leaves_out_what_costs_more_and_is_no_better(tmp_path):
    lines = [
        Line(name, {}, dice, (dice - 0.1, dice + 0.1), None, None, None, {"macs": macs})
        for name, dice, macs in (("a", 0.7, 1e9), ("b", 0.6, 2e9), ("c", 0.7, 3e9), ("d", 0.8, 4e9))
    ]
    assert [line.name for line in front(lines)] == ["a", "d"]
    draw([*lines, Line("elsewhere", {}, 0.9, None, None, None, None, {})], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
