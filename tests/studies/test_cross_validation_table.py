"""The table of a cross-validation against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from custom_networks.studies.table import DEFINITIONS, as_csv, dice_by_class, read_fold, summarise


def rows(table):
    """Return the rows of a table ``{class: {fold: values}}`` with the same number as a distance in mm."""
    return [
        {"fold": str(fold), "case": f"{fold}{number}", "class": name, "dice": f"{value:.6g}", "hd95": "2"}
        | {"reference_volume": "10", "prediction_volume": "12"}
        for name, folds in table.items()
        for fold, values in folds.items()
        for number, value in enumerate(values)
    ]


def test_the_figures_of_a_class():
    figures = summarise(rows({"heart": {0: [0.5, 0.7], 1: [0.9, math.nan], 2: [math.nan]}}))["classes"]["heart"]
    assert list(figures) == ["dice", "hd95"]
    dice = figures["dice"]
    assert dice["n"] == 3
    assert dice["mean"] == pytest.approx((0.5 + 0.7 + 0.9) / 3)  # not that of the means of the folds, .75
    assert dice["sd"] == pytest.approx(0.2)  # sqrt((.04 + 0 + .04) / 2)
    assert dice["fold_means"] == pytest.approx({"0": 0.6, "1": 0.9})
    assert dice["sd_over_folds"] == pytest.approx(0.3 / math.sqrt(2))
    low, high = dice["interval"]
    assert 0.5 <= low < dice["mean"] < high <= 0.9
    assert set(dice) == set(DEFINITIONS) - {"mean of classes"}
    assert figures["hd95"]["n"] == 5
    assert figures["hd95"]["sd"] == 0
    assert tuple(figures["hd95"]["interval"]) == (2, 2)


def test_the_interval_is_that_of_the_normal_approximation_where_there_are_many_cases():
    values = np.random.default_rng(0).normal(0.8, 0.05, 400)
    low, high = summarise(rows({"heart": {0: values}}))["classes"]["heart"]["dice"]["interval"]
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_the_mean_of_classes_counts_every_class_once():
    summary = summarise(rows({"heart": {0: [0.5] * 3}, "aorta": {0: [0.9]}, "lung": {0: [math.nan]}}))
    assert summary["mean of classes"]["dice"] == pytest.approx(0.7)
    lung = summary["classes"]["lung"]["dice"]
    assert lung == {"n": 0, "fold_means": {}} | dict.fromkeys(("mean", "sd", "interval", "sd_over_folds"))
    aorta = summary["classes"]["aorta"]["dice"]
    assert (aorta["sd"], aorta["interval"], aorta["sd_over_folds"]) == (None, None, None)


def test_the_cells_stay_what_they_are(tmp_path):
    (tmp_path / "metrics.csv").write_text('case,class,dice\n"a, b",heart,0.50\n')
    read = read_fold(3, tmp_path)
    assert as_csv(read) == 'fold,case,class,dice\n3,"a, b",heart,0.50\n'
    assert dice_by_class(read) == "heart 0.500"
    assert dice_by_class(rows({"heart": {0: [math.nan]}, "aorta": {0: [0.12345]}})) == "heart no case, aorta 0.123"


def test_cases_of_one_patient_are_one_observation():
    """Twice the same cases under other names tell nothing new of other patients."""
    values = [0.5, 0.6, 0.7, 0.9]
    once = summarise(rows({"heart": {0: values}}))["classes"]["heart"]["dice"]
    doubled = rows({"heart": {0: [*values, *values]}})
    patient_of = {row["case"]: str(number % 4) for number, row in enumerate(doubled)}
    twice = summarise(doubled, patient_of)["classes"]["heart"]["dice"]
    assert twice["interval"] == once["interval"]
    assert twice["n"] == 8
    low, high = summarise(doubled)["classes"]["heart"]["dice"]["interval"]
    assert high - low < once["interval"][1] - once["interval"][0]
