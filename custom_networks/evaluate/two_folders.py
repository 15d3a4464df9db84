"""Predictions in one folder against labels in another, whoever made them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.adapt.network import from_config_value
from custom_networks.evaluate.classes import KNOBS, Classes, of_index, of_knobs, of_values
from custom_networks.evaluate.commands import Choice
from custom_networks.evaluate.labelled_cases import choose, find_labelled, listed
from custom_networks.evaluate.measure import check_grids, measure, tolerance_of, values_in
from custom_networks.evaluate.predictions import find_predictions, pairs_of, predictions_of
from custom_networks.evaluate.table import print_table
from custom_networks.files import read_json
from custom_networks.workflow.data.cases import Case
from custom_networks.workflow.guard.knobs import wrong_knob
from custom_networks.workflow.report.segmentation_report import SegmentationReport, default_tolerance

logger = logging.getLogger(__name__)
GLOBS = ("image_glob", "label_glob")
LOOKED_AT = (*KNOBS, *GLOBS, "spacing", "surface_tolerance")
"""The knobs that say something here."""


def evaluate_folders(
    predictions: Path, labels: Path, profiles: Sequence[Path], choice: Choice, tolerance: float | None, out: Path
) -> None:
    """Compare the predictions of one folder with the labels of another, write the two files and print the table.

    Args:
        predictions: see :func:`measure_folders`, as all others.
        labels: see there.
        profiles: see there.
        choice: see there.
        tolerance: see there.
        out: see there.

    Raises:
        FileNotFoundError: if a folder holds nothing of its kind.
        ValueError: if something does not fit together.
    """
    report = measure_folders(predictions, labels, profiles, choice, tolerance, out)
    print_table(report.rows, report.label_names, report.tolerance, out)


def measure_folders(
    predictions: Path, labels: Path, profiles: Sequence[Path], choice: Choice, tolerance: float | None, out: Path
) -> SegmentationReport:
    """Compare the predictions of one folder with the labels of another, and write ``metrics.csv`` and ``metrics.json``.

    Args:
        predictions: folder of label maps.
        labels: folder of label maps, or of a data set.
        profiles: override files, the later wins.
        choice: which cases.
        tolerance: that of the normalised surface Dice in mm; ``None`` for that of the profiles or of the labels.
        out: folder for the results.

    Raises:
        FileNotFoundError: if a folder holds nothing of its kind.
        ValueError: if something does not fit together.
    """
    source = " and ".join(map(str, profiles))
    knobs = _read_knobs(profiles, source)
    found = find_labelled(labels, *(knobs.get(glob) for glob in GLOBS))
    chosen = choose(found, choice, labels)
    given = find_predictions(predictions)
    of_cases = predictions_of(found, given)
    pairs = pairs_of(chosen, of_cases, labels, predictions)
    labelled = {prediction for own in of_cases.values() for prediction in own}
    if others := [prediction.file for prediction in given if prediction not in labelled]:
        logger.warning("predictions without a label in %s are left out: %s", labels, listed(others))
    grids = check_grids(pairs)
    classes = of_knobs(knobs, source) if profiles else _classes(labels, chosen)
    distance = tolerance or knobs.get("surface_tolerance")
    if distance is None:
        distance = default_tolerance(knobs["spacing"]) if "spacing" in knobs else tolerance_of(grids)
    return measure(pairs, classes, distance, out)


def _read_knobs(profiles: Sequence[Path], source: str) -> Mapping[str, Any]:
    content = {name: value for file in profiles for name, value in read_json(file).items()}
    knobs = {name: from_config_value(content[name]) for name in LOOKED_AT if name in content}
    if wrong := wrong_knob(knobs):
        raise ValueError(f"{source}: {wrong}")
    return knobs


def _classes(labels: Path, cases: Sequence[Case]) -> Classes:
    """Return the classes that ``dataset.json`` names, else one for each value."""
    named = of_index(labels, beside=not any(case.images for case in cases))
    if named is not None:
        return named
    return of_values({value for case in cases for value in values_in(case.label)}, labels)
