"""The curve of a training: one row per epoch in a CSV file, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from custom_networks.files import replacing

COLUMNS = ("epoch", "loss", "learning_rate", "seconds", "validation_metric")
DICE = "dice_"
"""What the column of a class begins with, its name follows."""
PICTURE = "training.png"


def read_curve(path: Path) -> list[dict[str, str]]:
    """Return the rows of a curve, without what is torn.

    Args:
        path: the CSV file; without one there are none.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file, restval="") if (row.get("epoch") or "").isdigit()]


def write_row(path: Path, row: Mapping[str, str]) -> None:
    """Put the row of an epoch behind those of the earlier ones, and replace the file in one step.

    Rows of this epoch and of later ones, which a training that was killed and resumed repeats, are left out.

    Args:
        path: the CSV file.
        row: the values by column, "epoch" among them.
    """
    before = [old for old in read_curve(path) if int(old["epoch"]) < int(row["epoch"])]
    columns = [*COLUMNS, *dict.fromkeys(key for one in (*before, row) for key in one if str(key).startswith(DICE))]
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*before, row])


def class_dice(row: Mapping[str, str]) -> dict[str, float]:
    """Return the Dice of every class in a row.

    Args:
        row: of :func:`read_curve`.

    Example:
        >>> class_dice({"epoch": "1", "dice_heart": "0.5", "dice_lung": ""})
        {'heart': 0.5}
    """
    return {key.removeprefix(DICE): float(value) for key, value in row.items() if key.startswith(DICE) and value}


def draw_curve(path: Path, metric: str) -> Path | None:
    """Write ``training.png``, loss and validation metric over the epochs, beside a curve.

    Args:
        path: the CSV file.
        metric: what the validation metric is, in words.

    Returns:
        The picture, ``None`` without matplotlib or without a row.
    """
    rows = read_curve(path)
    if not rows or find_spec("matplotlib") is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([int(row["epoch"]) for row in rows], [float(row["loss"]) for row in rows])
    validated = [row for row in rows if row["validation_metric"]]
    _plot(right, validated, metric, [row["validation_metric"] for row in validated], color="black", linewidth=2)
    for column in [key for key in rows[-1] if key.startswith(DICE)]:
        _plot(right, validated, column.removeprefix(DICE), [row[column] for row in validated], linewidth=1)
    left.set_ylabel("loss")
    right.set_ylabel(metric)
    right.set_ylim(0, 1)
    if validated:
        right.legend(fontsize="small", loc="lower right")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    picture = path.with_name(PICTURE)
    with replacing(picture) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))
    return picture


def _plot(axes: Any, rows: Sequence[Mapping[str, str]], name: str, values: Sequence[str], **style: Any) -> None:
    """Draw the values that there are."""
    points = [(int(row["epoch"]), float(value)) for row, value in zip(rows, values, strict=True) if value]
    if points:  # a line of one point is seen by its marker alone
        axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else None, **style)
