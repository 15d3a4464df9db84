"""What ``python -m tools bench axial`` measured, as Markdown tables and as a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


def ratio(entry: Entry, reference: Entry, key: str) -> str:
    """Return a figure and, in brackets, what it is of the reference's.

    Args:
        entry: a row of the report.
        reference: the row of the transcription.
        key: ``step_seconds`` or ``step_peak_mib``.
    """
    digits = ".3f" if key == "step_seconds" else ".1f"
    share = entry[key] / reference[key] if reference[key] else math.nan
    return f"{entry[key]:{digits}} ({share:.2f}x)"


def partner(entries: Sequence[Entry], entry: Entry) -> Entry:
    """Return the row of the transcription for the same input.

    Args:
        entries: a part of the report.
        entry: a row of it.
    """
    return next(row for row in entries if row["name"] == "reference" and row["shape"] == entry["shape"])


def _table(entries: Sequence[Entry], head: str, cells: Any) -> list[str]:
    lines = [f"| {head} | step, s | step peak, MiB |", "|" + "---|" * (head.count("|") + 3)]
    for entry in entries:
        base = partner(entries, entry)
        figures = [ratio(entry, base, key) for key in ("step_seconds", "step_peak_mib")]
        lines.append(f"| {' | '.join([*cells(entry), *figures])} |")
    return lines


def tables(report: Entry) -> str:
    """Return the report as Markdown.

    Args:
        report: what :func:`tools.bench.bench_axial.bench_axial` returns.
    """
    slab = report["forms"][0]["shape"]
    return "\n".join(
        [
            f"Axis lengths, on a slab of {slab[2]} slices of L x L voxels:",
            "",
            *_table(
                report["lengths"], "L | channels | layer", lambda e: [str(e["shape"][4]), str(e["shape"][1]), e["name"]]
            ),
            "",
            f"Forms of the computation, at L = {slab[4]}:",
            "",
            *_table(report["forms"], "channels | form", lambda e: [str(e["shape"][1]), e["name"]]),
            "",
            f"Cubes, {report['cubes'][0]['shape'][1]} channels:",
            "",
            *_table(report["cubes"], "voxels | form", lambda e: [f"{e['shape'][4]}^3", e["name"]]),
            "",
            f"{report['dtype']}, {report['num_heads']} heads, {report['machine']['processor']} ({report['device']}, "
            f"{report['threads']} threads), torch {report['torch']}; medians of {report['repeats']} processes each, in "
            "brackets the ratio to the reference on the same input.",
        ]
    )


def save_plot(report: Entry, path: Path) -> None:
    """Draw time and memory of a training step against the volume, with the maps of full attention for comparison.

    Args:
        report: what :func:`tools.bench.bench_axial.bench_axial` returns.
        path: PNG file to write.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    entries = report["cubes"]
    for name in dict.fromkeys(entry["name"] for entry in entries):
        own = sorted((e for e in entries if e["name"] == name), key=lambda e: int(e["shape"][4]))
        voxels = [math.prod(e["shape"][2:]) for e in own]
        left.plot(voxels, [e["step_seconds"] for e in own], "o-", label=name)
        right.plot(voxels, [e["step_peak_mib"] for e in own], "o-", label=name)
    sizes = sorted({math.prod(e["shape"][2:]) for e in entries})
    full = [report["num_heads"] * 4 * n * n / 2**20 for n in sizes]
    right.plot(sizes, full, "k:", label="one map of full attention (computed)")
    for axes, what in ((left, "training step, s"), (right, "peak memory of a step, MiB")):
        axes.set(xscale="log", yscale="log", xlabel="voxels", ylabel=what)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, format="png")
