"""The figures of the shipped weights of a segmentation bundle: of a held-back fold, or of a cross-validation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tools.records import POLICY, record
from tools.recipes.render import all_bundles
from tools.recipes.segmentation import performance
from tools.recipes.segmentation.performance import SCORE, describe_performance, list_metrics, state_result
from tools.recipes.segmentation.readme import describe_folds

BUNDLE = replace(next(bundle for bundle in all_bundles() if bundle.recipe == "segmentation"), study=None)
WHOLE = replace(BUNDLE, study="all_cases")
FIGURES = {"mean": 0.891, "sd": 0.03, "n": 208, "interval": [0.885, 0.896], "fold_means": {"0": 0.88, "1": 0.9}}


@pytest.fixture
def study(monkeypatch):
    classes = {name: dict.fromkeys(performance.METRIC_HEADS, FIGURES) for name in BUNDLE.knobs["label_names"][1:]}
    report = {
        "classes": classes,
        "folds": {"of": 2, "finished": [0, 1]},
        "cases": {"patients": 152},
        "policy": POLICY,
        "profile": "mine.json",
        "surface_tolerance_mm": 1.0,
    }
    own = {"dataset": "the crops", "split": "by subject", "command": "cross_validate it", "report": report}
    monkeypatch.setattr(performance, "read_study", {"all_cases": own}.get)


def test_the_surface_dice_stands_with_its_tolerance_where_it_was_measured():
    before = record(BUNDLE, 0.85)
    assert "| class | Dice | IoU |" in describe_performance(before, BUNDLE)
    metrics = before["metrics"]
    classes = {name: {**own, "nsd": {"mean": 0.95, "std": 0.02, "n": 5}} for name, own in metrics["classes"].items()}
    after = {**before, "metrics": {**metrics, "classes": classes, "surface_tolerance_mm": 1.5}}
    text = describe_performance(after, BUNDLE)
    assert "| class | Dice | NSD (1.5 mm) | IoU |" in text
    assert "| 0.8500 ± 0.0100 | 0.9500 ± 0.0200 | 0.8500 ± 0.0100 |" in text


def test_weights_of_all_cases_have_the_figures_of_the_cross_validation(study):
    own = {**record(WHOLE, 0.85), "metrics": None}
    text = describe_performance(own, WHOLE)
    assert "2-fold cross-validation on the crops, by subject: each of the 208 cases is measured once" in text
    assert "over the 152 patients" in text
    assert "| class | Dice | interval | NSD (1 mm) | IoU |" in text
    assert "| Anterior | 0.8910 ± 0.0300 | 0.8850 to 0.8960 | 0.8910 ± 0.0300 |" in text
    assert "Dice by fold: Anterior 0.8800, 0.9000; Posterior 0.8800, 0.9000." in text
    assert "cross_validate it" in text
    assert "`mine.json` is {" in text
    assert "0.85" not in text.replace("0.8850", "")
    cases = "2-fold cross-validation, 208 cases"
    assert state_result(own, WHOLE) == f"Dice Anterior 0.8910, Posterior 0.8910 ({cases}, original grid)"
    assert list_metrics(own, WHOLE)[0] == ("dice", f"Dice Anterior ({cases})", 0.891)
    assert "weights were trained on all cases" in describe_folds(WHOLE)
    assert "fold 0 validates" in describe_folds(BUNDLE)


def test_a_study_that_is_not_kept_is_no_figure():
    own = record(WHOLE, 0.85)
    assert describe_performance(own, WHOLE) == "Not measured yet."
    assert state_result(own, WHOLE) == "not measured yet"
    assert list_metrics(own, WHOLE) == []


def test_a_removal_test_on_other_folds_says_so():
    now, before = record(BUNDLE, 0.85), record(BUNDLE, 0.85)
    now["metrics"]["cases"] = len(BUNDLE.folds[0])
    before["metrics"]["cases"] = 1
    assert SCORE.cases(BUNDLE, now) == f"Validation fold 0, {len(BUNDLE.folds[0])} cases"
    assert SCORE.cases(BUNDLE, before) == "Validation fold 0, 1 cases (of earlier folds, by crop)"
