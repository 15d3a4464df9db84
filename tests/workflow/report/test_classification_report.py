"""Classification metrics against their definitions, and the files of the report."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from custom_networks.workflow import ClassificationReport
from custom_networks.workflow.report.classification_report import classification_metrics, intervals


def data(classes: int, cases: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, cases - classes)])
    scores = generator.random((cases, classes)) + 0.5 * np.eye(classes)[labels]
    scores[3] = scores[4] = scores[5]  # ties
    return scores / scores.sum(axis=1, keepdims=True), labels


def slow_auc(score, positive) -> float:
    """Share of the pairs of a positive and a negative case that are in order, ties counting one half."""
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    return sum(pairs) / len(pairs)


def slow_average_precision(score, positive) -> float:
    """Sum over the thresholds of the precision times the gain in recall."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        taken = score >= threshold
        new = positive[taken].sum() / positive.sum()
        total += (new - recall) * positive[taken].sum() / taken.sum()
        recall = new
    return total


@pytest.mark.parametrize("classes", [2, 3])
def test_equals_the_definitions(classes):
    probabilities, labels = data(classes)
    got = classification_metrics(probabilities, labels)
    one_vs_rest = []
    for k in range(classes):
        positive, predicted = labels == k, probabilities.argmax(1) == k
        one_vs_rest.append(
            (
                slow_auc(probabilities[:, k], positive),
                slow_average_precision(probabilities[:, k], positive),
                sum(predicted & positive) / sum(positive),
                sum(~predicted & ~positive) / sum(~positive),
            )
        )
    chosen = one_vs_rest[1:] if classes == 2 else one_vs_rest
    want = dict(zip(("auc", "average_precision", "sensitivity", "specificity"), np.mean(chosen, axis=0), strict=True))
    want["balanced_accuracy"] = np.mean([row[2] for row in one_vs_rest])
    squares = [
        sum((p - (k == y)) ** 2 for k, p in enumerate(row)) for row, y in zip(probabilities, labels, strict=True)
    ]
    want["brier"] = sum(squares) / len(squares)
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name


def test_intervals_hold_the_value_and_shrink_with_more_cases():
    probabilities, labels = data(2)
    few = intervals(probabilities, labels)
    many = intervals(np.tile(probabilities, (4, 1)), np.tile(labels, 4))
    assert few == intervals(probabilities, labels)
    for name, value in classification_metrics(probabilities, labels).items():
        assert few[name][0] <= value <= few[name][1], name
        assert many[name][1] - many[name][0] < 0.7 * (few[name][1] - few[name][0]), name


def test_one_case_of_a_class_has_no_interval():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    assert set(intervals(probabilities, np.array([0, 0, 1])).values()) == {None}


def report(folder, probabilities, labels=None, runs=1) -> None:
    """Run an engine that yields these rows, the last first and two at a time, as a MONAI evaluator does.

    With labels a case is called as in a list from a CSV file; without, as in that of a folder.
    """
    engine = Engine(lambda *_: None)
    ClassificationReport(folder, ["normal", "hyperplasia"]).attach(engine)

    def batch(i):
        return {"case": f"case_{i}" if labels is None else f"scans/{i}/patch.nii.gz"}

    def output(i):
        image = MetaTensor(torch.zeros(1, 2, 2, 2), meta={"filename_or_obj": "no/name.nii.gz"})
        row = {"image": image, "pred": torch.tensor(probabilities[i])}
        return row if labels is None else {**row, "label": torch.eye(2)[labels[i]]}

    def step(engine, numbers):
        engine.state.batch = [batch(i) for i in numbers]  # as MONAI's decollation leaves it
        return [output(i) for i in numbers]

    engine._process_function = step
    numbers = list(range(len(probabilities)))[::-1]
    for _ in range(runs):
        engine.run([numbers[i : i + 2] for i in range(0, len(numbers), 2)])


PROBABILITIES = [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]]


def test_writes_predictions_and_metrics(tmp_path):
    report(tmp_path, PROBABILITIES, [0, 0, 1, 1], runs=2)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == [f"scans/{i}/patch.nii.gz" for i in range(4)]
    assert list(rows[1].items()) == [
        ("case", "scans/1/patch.nii.gz"),
        ("label", "normal"),
        ("prediction", "hyperplasia"),
        ("normal", "0.400000"),
        ("hyperplasia", "0.600000"),
    ]
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["cases_per_class"] == {"normal": 2, "hyperplasia": 2}
    assert summary["confusion"] == [[1, 1], [1, 1]]
    assert summary["metrics"]["auc"]["value"] == 0.75
    assert summary["metrics"]["sensitivity"]["value"] == 0.5
    assert not list(tmp_path.glob("*partial*"))


def test_without_labels_only_the_predictions(tmp_path):
    report(tmp_path, PROBABILITIES)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]
    assert (tmp_path / "predictions.csv").read_text().splitlines()[:2] == [
        "case,prediction,normal,hyperplasia",
        "case_0,normal,0.900000,0.100000",
    ]


def test_a_class_without_cases_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no case of the class 'hyperplasia' was evaluated"):
        report(tmp_path, PROBABILITIES, [0, 0, 0, 0])
    assert not (tmp_path / "metrics.json").exists()


def test_a_single_case_of_a_class_has_metrics_without_interval(tmp_path):
    report(tmp_path, PROBABILITIES[:3], [0, 0, 1])
    auc = json.loads((tmp_path / "metrics.json").read_text())["metrics"]["auc"]
    assert auc == {"value": 1.0, "interval": None}
