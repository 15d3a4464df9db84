"""The part of the page that shows what the evaluation of a classifier wrote."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from custom_networks.workflow.report.page.charts import Row, strip_plot
from custom_networks.workflow.report.page.colours import colours_of

PREDICTIONS = "predictions.csv"
TITLES = {
    "auc": "Area under the ROC curve",
    "average_precision": "Average precision",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "brier": "Brier score, 0 is perfect",
}


@dataclass(frozen=True)
class Classified:
    """A case that was classified.

    Args:
        case: its name.
        label: its class, if that is known.
        prediction: the class that was predicted.
        probabilities: by class.
    """

    case: str
    label: str | None
    prediction: str
    probabilities: Sequence[float]


@dataclass(frozen=True)
class Classification:
    """What a folder of classifications holds.

    Args:
        classes: their names and colours.
        cases: every case.
        metrics: name, value and interval, none without labels.
        confusion: cases by true class and predicted class, none without labels.
        chart: the probability of every class by true class, if that is known.
        policy: what was measured how, by what it is about.
    """

    classes: Mapping[str, str]
    cases: Sequence[Classified]
    metrics: Sequence[tuple[str, float, Sequence[float] | None]]
    confusion: Sequence[Sequence[int]]
    chart: Markup | None
    policy: Mapping[str, str]


def read_classification(folder: Path, summary: Mapping[str, Any]) -> Classification:
    """Return what a folder of classifications holds.

    Args:
        folder: with ``predictions.csv``.
        summary: its ``metrics.json``, empty if there is none.

    Raises:
        FileNotFoundError: if there is no ``predictions.csv``.
        ValueError: if the files are not what an evaluation writes.
    """
    file = folder / PREDICTIONS
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file} beside metrics.json; evaluate again")
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            heading, *rows = csv.reader(lines)
        labelled = heading[1] == "label"
        first = 3 if labelled else 2
        cases = [
            Classified(row[0], row[1] if labelled else None, row[first - 1], [float(p) for p in row[first:]])
            for row in rows
        ]
        names = heading[first:]
        metrics = [
            (TITLES.get(name, name), float(entry["value"]), entry["interval"])
            for name, entry in summary.get("metrics", {}).items()
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{file} is not what an evaluation writes ({error!r}); evaluate again") from error
    chart = _chart(names, cases) if labelled and cases else None
    return Classification(
        colours_of(names), cases, metrics, summary.get("confusion", []), chart, summary.get("policy", {})
    )


def _chart(names: Sequence[str], cases: Sequence[Classified]) -> Markup:
    """Draw the probability of the last of two classes, or else of the true one, by true class."""
    colours, rows = colours_of(names), []
    for index, name in enumerate(names):
        own = [case for case in cases if case.label == name]
        column = 1 if len(names) == 2 else index
        values = [case.probabilities[column] for case in own]
        if values:
            mean = sum(values) / len(values)
            rows.append(Row(f"{name}, n = {len(own)}", colours[name], values, [c.case for c in own], mean, None))
    unit = f"probability of {names[1]}" if len(names) == 2 else "probability of the true class"
    return strip_plot(rows, unit, f"{unit}, by true class")
