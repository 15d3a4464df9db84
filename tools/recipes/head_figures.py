"""The part of a bundle's README about whole heads of another study, from a stored run file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import nan
from pathlib import Path
from statistics import StatisticsError, correlation, fmean
from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.markdown import format_table, keep_in_a_clone

RECORD = "docs/runs/heads.json"
Cases = Mapping[str, Mapping[str, Any]]
"""What was measured by case: figures by place, and the problems that were said."""
CHANGE = 0.02
"""Fall of the mean Dice up to which a pose counts as nothing."""


def figures(cases: Cases, name: str, places: list[str]) -> list[float]:
    """Return a figure of every case and place.

    Args:
        cases: what was measured.
        name: of the figure.
        places: which places.
    """
    return [case[place][name] for case in cases.values() for place in places]


def _places(cases: Cases) -> list[str]:
    return [name for name in next(iter(cases.values())) if name != "problems"]


def _correlation(one: list[float], other: list[float]) -> float:
    try:
        return correlation(one, other)
    except StatisticsError:  # of a single head
        return nan


def _rows(cases: Cases) -> Iterator[list[str]]:
    """Give the rows of the table, a column for each place and one for all."""
    places = _places(cases)
    columns = [*([place] for place in places), places]

    def row(head: str, digits: int, of: Any) -> list[str]:
        return [head, *(f"{of(column):.{digits}f}" for column in columns)]

    yield row("mean Dice", 4, lambda column: fmean(figures(cases, "dice", column)))
    yield row("least Dice", 4, lambda column: min(figures(cases, "dice", column)))
    yield row("mean volume (mL)", 2, lambda column: fmean(figures(cases, "predicted_ml", column)))
    yield row("mean volume of the reference (mL)", 2, lambda column: fmean(figures(cases, "reference_ml", column)))
    yield row(
        "correlation of the volumes",
        2,
        lambda column: _correlation(figures(cases, "predicted_ml", column), figures(cases, "reference_ml", column)),
    )
    yield row(
        "least share of a reference in its crop (%)", 1, lambda column: 100 * min(figures(cases, "coverage", column))
    )


def _pose_rows(poses: Mapping[str, Cases]) -> Iterator[list[str]]:
    """Give a row for every pose, the first of which the others are compared with."""
    mean = None
    for name, cases in poses.items():
        dice = figures(cases, "dice", _places(cases))
        change = "" if mean is None else f"{fmean(dice) - mean:+.4f}"
        mean = fmean(dice) if mean is None else mean
        least = 100 * min(figures(cases, "coverage", _places(cases)))
        warned = sum(1 for case in cases.values() if case["problems"])
        yield [name, f"{fmean(dice):.4f}", change, f"{min(dice):.4f}", f"{least:.1f}", str(warned)]


def describe_head_figures(bundle: Bundle, folder: Path) -> str:
    """Return how the shipped weights do in whole heads of another study.

    Args:
        bundle: the specification.
        folder: the bundle's folder.
    """
    path = folder / RECORD
    if not bundle.places:
        return ""
    if not path.is_file():
        return "\n".join(["## Another study's data", "", "Not measured yet.", ""])
    record = json.loads(path.read_text())
    poses: dict[str, Cases] = record["poses"]
    cases = next(iter(poses.values()))
    places = _places(cases)
    return "\n".join(
        [
            "## Another study's data",
            "",
            f"{len(cases)} whole heads of {record['dataset']} ({record['description']}; {record['licence']}: used for "
            "these figures, not for the weights), segmented by `configs/inference_head.json`. The classes of a side "
            f"together are compared with the reference's {record['structure'].lower()} on the grid of the file. It is "
            "drawn by another protocol than that of the training data, with other borders, so that a Dice of 1 is out "
            "of reach.",
            "",
            *format_table(["", *places, "both" if len(places) == 2 else "all"], _rows(cases)),
            "",
            "The same heads turned on their grid about their centre, moved, stored with another order of axes, or with "
            "thicker slices, whose reference is another one, too:",
            "",
            *format_table(
                ["pose", "mean Dice", "change", "least Dice", "least share in a crop (%)", "heads with a warning"],
                _pose_rows(poses),
            ),
            "",
            *keep_in_a_clone(
                "```bash", f"python -m tools heads {bundle.name} --dataset_dir <{record['dataset']}>", "```"
            ),
            "",
        ]
    )
