"""The table of a cross-validation: the cases of all folds, and what its columns come to by class."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from custom_networks.workflow.report.statistics import bootstrap_interval

METRICS = "metrics.csv"
NO_METRICS = ("fold", "case", "class", "reference_volume", "prediction_volume")
"""The columns that are not averaged."""
DEFINITIONS = {
    "n": "cases that have a value; the others are left out of all figures of the metric",
    "mean": "over the cases of all folds together",
    "sd": "sample standard deviation over the same cases; null for one case",
    "interval": "95 % percentile bootstrap interval of the mean over the patients, each with the mean of its cases; "
    "null for one patient",
    "fold_means": "mean over the cases of each fold",
    "sd_over_folds": "sample standard deviation of the means of the folds; null for one fold",
    "mean of classes": "mean of the means of the classes",
}
Row = Mapping[str, str]


def read_fold(fold: int, folder: Path) -> list[dict[str, str]]:
    """Return the rows of one fold, with its number.

    Args:
        fold: the number.
        folder: what the evaluation has written.
    """
    with (folder / METRICS).open(newline="", encoding="utf-8") as file:
        return [{"fold": str(fold), **row} for row in csv.DictReader(file)]


def as_csv(rows: Sequence[Row]) -> str:
    """Return a table as the text of a CSV file; the cells are those of the folds, letter by letter.

    Args:
        rows: one per fold, case and class, at least one.
    """
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def summarise(rows: Sequence[Row], patient_of: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Average a table.

    Args:
        rows: one per fold, case and class, at least one.
        patient_of: the patient of a case; one that it lacks is a patient of its own.

    Returns:
        ``{"classes": {name: {metric: figures}}, "mean of classes": {metric: value}}``; ``DEFINITIONS`` says what the
        figures are, which are ``None`` where no case has a value.

    Example:
        >>> rows = [{"fold": "0", "case": "a", "class": "heart", "dice": text} for text in ("0.5", "0.7", "nan")]
        >>> figures = summarise(rows)["classes"]["heart"]["dice"]
        >>> figures["n"], round(figures["mean"], 3), round(figures["sd"], 3)
        (2, 0.6, 0.141)
    """
    metrics = [column for column in rows[0] if column not in NO_METRICS]
    names = list(dict.fromkeys(row["class"] for row in rows))
    classes = {
        name: {
            metric: _figures([row for row in rows if row["class"] == name], metric, patient_of or {})
            for metric in metrics
        }
        for name in names
    }
    means: dict[str, float | None] = {}
    for metric in metrics:
        of_classes = [own[metric]["mean"] for own in classes.values() if own[metric]["mean"] is not None]
        means[metric] = fmean(of_classes) if of_classes else None
    return {"classes": classes, "mean of classes": means}


def _figures(rows: Sequence[Row], metric: str, patient_of: Mapping[str, str]) -> dict[str, Any]:
    """Return what one metric of one class comes to."""
    by_fold: dict[str, list[float]] = {}
    by_patient: dict[str, list[float]] = {}
    for row in rows:
        value = float(row[metric])
        if not math.isnan(value):
            by_fold.setdefault(row["fold"], []).append(value)
            by_patient.setdefault(patient_of.get(row["case"], row["case"]), []).append(value)
    values = [value for own in by_fold.values() for value in own]
    fold_means = {fold: fmean(own) for fold, own in by_fold.items()}
    return {
        "n": len(values),
        "mean": fmean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
        "interval": bootstrap_interval([fmean(own) for own in by_patient.values()]),
        "fold_means": fold_means,
        "sd_over_folds": stdev(fold_means.values()) if len(fold_means) > 1 else None,
    }


def dice_by_class(rows: Sequence[Row]) -> str:
    """Return the mean Dice of every class in words.

    Args:
        rows: those of a fold or of all.

    Example:
        >>> dice_by_class([{"fold": "0", "case": "a", "class": "heart", "dice": "0.91234"}])
        'heart 0.912'
    """
    classes = summarise(rows)["classes"]
    found = {name: own["dice"]["mean"] for name, own in classes.items()}
    return ", ".join(f"{name} {'no case' if mean is None else format(mean, '.3f')}" for name, mean in found.items())
