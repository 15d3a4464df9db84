"""What an evaluation says on the terminal: a few metrics of every class, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.workflow.report.statistics import summarise

HEADING = ("class", "metric", "mean", "95 % interval", "n", "worst", "case")
TEXT = (0, 1, 6)
"""Its columns that are no numbers."""


def print_table(rows: Sequence[Mapping[str, Any]], label_names: Sequence[str], tolerance: float, out: Path) -> None:
    """Print Dice, normalised surface Dice and HD95 of every class, and where all metrics are.

    Args:
        rows: one per case and class, those of a report.
        label_names: names of the classes, the background first.
        tolerance: that of the normalised surface Dice, in mm.
        out: the folder of ``metrics.csv`` and ``metrics.json``.
    """
    lines: list[tuple[str, ...]] = [HEADING]
    for name in label_names[1:]:
        own = [row for row in rows if row["class"] == name]
        for metric, title in (("dice", "Dice"), ("nsd", f"NSD ({tolerance:g} mm)"), ("hd95", "HD95 (mm)")):
            lines.append(_line(name, title, metric, own))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADING))]
    for line in lines:
        cells = zip(line, widths, strict=True)
        print("  ".join(c.ljust(w) if n in TEXT else c.rjust(w) for n, (c, w) in enumerate(cells)).rstrip())
    cases = len({row["case"] for row in rows})
    print(f"{cases} case{'s' * (cases > 1)}, all metrics in {out / 'metrics.csv'} and metrics.json")
    print(f"a page to look at: custom_networks report {out}")


def _line(name: str, title: str, metric: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    summary = summarise(metric, [row[metric] for row in rows], [row["case"] for row in rows])
    if summary is None:
        return name, title, "none", "", "0", "", ""
    ends = "none" if summary.interval is None else f"{summary.interval[0]:.3f} to {summary.interval[1]:.3f}"
    return name, title, f"{summary.mean:.3f}", ends, str(summary.n), f"{summary.worst:.3f}", summary.worst_case
