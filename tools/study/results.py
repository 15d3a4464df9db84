"""``results.csv``, a row per case and class of every study that the repository keeps, and the page made from it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from custom_networks.bundle_folder import HOME
from custom_networks.files import read_json, write_text
from custom_networks.workflow.report.statistics import TOLERANCE
from tools.recipes.head_figures import RECORD as HEADS
from tools.recipes.markdown import format_table
from tools.recipes.render import all_bundles
from tools.recipes.studies import RECORD, STUDIES, TABLE

CSV = HOME / "results.csv"
PAGE = HOME / "docs" / "results.md"
BUNDLES = HOME / "bundles"
COLUMNS = (
    *("study", "dataset", "split", "bundle", "network", "fold", "seed", "case", "class", "dice", "nsd", "hd95"),
    *("train_seconds", "step_bytes", "version", "commit"),
)
COMPARED = "comparison.md"
KEY = 3
"""How many words say which cases a study is of."""
RENDER = "python -m tools study results"
HEAD = """# Results

Mean and standard deviation over cases and seeds, on the grid of the file; a click on a heading sorts. What holds where
a structure is missed or absent is in [the metrics](decisions/metrics.md): no missed case counts as a distance of 0.
Figures of one table are of the same cases; those of different tables are not to be compared.

All of it is made from `results.csv` in the repository, which has a row per case and class, and that from the tables in
`docs/studies` and of the bundles, by `python -m tools study results`. Below each table stand the commands that made it.
"""


class Study(NamedTuple):
    """A study, with a row per case and class.

    Args:
        name: its folder under ``docs/studies``, or what it is called.
        dataset: what the data set is called.
        split: the rule of its folds, in words.
        command: the command that made it.
        tolerance: that of the NSD in mm, where it is known.
        rows: see ``COLUMNS``.
    """

    name: str
    dataset: str
    split: str
    command: str
    tolerance: str
    rows: list[dict[str, str]]


def results(check: bool = False) -> None:
    """Write ``results.csv`` and ``docs/results.md`` from the studies that are kept, or check that they are so.

    They are those in ``docs/studies`` and the whole heads of another study in ``docs/runs/heads.json`` of the bundles.

    Args:
        check: write nothing, and fail if a file differs from what would be written.

    Raises:
        ValueError: if a study lacks its record or its table, or, with ``check``, a file is stale.
    """
    studies = [study_in(folder) for folder in sorted(STUDIES.glob("*")) if folder.is_dir()]
    studies += whole_heads(sorted(BUNDLES.glob(f"*/{HEADS}")))
    wanted = {CSV: as_csv([row for study in studies for row in study.rows]), PAGE: page(studies)}
    stale = [file for file, text in wanted.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    if check and stale:
        raise ValueError(f"{', '.join(file.name for file in stale)} is not what the studies say; run: {RENDER}")
    for file in stale:
        write_text(file, wanted[file])
    print(f"wrote {', '.join(str(file) for file in stale)}" if stale else "nothing to write")


def study_in(folder: Path) -> Study:
    """Return a study that is kept.

    Args:
        folder: under ``docs/studies``.

    Raises:
        ValueError: if its record or its table is missing.
    """
    for name in (RECORD, TABLE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}; keep the study again with python -m tools study keep")
    record = read_json(folder / RECORD)
    report = record["report"]
    facts: Mapping[str, Mapping[str, Any]] = {own["name"]: own["facts"] for own in report.get("networks", ())}
    common = {key: str(record[key]) for key in ("dataset", "split", "version", "commit")}
    rows = []
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            known = facts.get(row.get("network", ""), {})
            of_fold = report.get("train_seconds", {}).get(row.get("fold"))
            own = {
                "study": folder.name,
                "bundle": str(known.get("bundle", report.get("bundle", ""))),
                "network": row.get("network", report.get("bundle", "")),
                "seed": row.get("seed", str(report.get("seed", ""))),
                "train_seconds": _rounded(known.get("train_seconds", of_fold)),
                "step_bytes": str(known.get("step_bytes", "")),
            }
            rows.append({column: {**row, **common, **own}.get(column, "") for column in COLUMNS})
    tolerance = f"{report[TOLERANCE]:g}" if TOLERANCE in report else ""
    return Study(folder.name, record["dataset"], record["split"], record["command"], tolerance, rows)


def whole_heads(files: Sequence[Path]) -> list[Study]:
    """Return what the shipped weights do in whole heads of another study, one study per data set.

    Args:
        files: the ``heads.json`` of bundles.
    """
    rows: dict[str, list[dict[str, str]]] = {}
    for file in files:
        bundle, record = file.parents[2].name, read_json(file)
        pose, cases = next(iter(record["poses"].items()))
        common = {"study": "whole_heads", "dataset": record["dataset"], "split": f"another study, {pose}"}
        common |= {"bundle": bundle, "network": bundle, "version": record["versions"].get("custom_networks", "")}
        for case, places in cases.items():
            for place, figures in places.items():
                if place != "problems":
                    own = {"case": case, "class": f"{place} {record['structure']}", "dice": str(figures["dice"])}
                    row = {column: {**common, **own}.get(column, "") for column in COLUMNS}
                    rows.setdefault(record["dataset"], []).append(row)
    command = "python -m tools heads <bundle> --dataset_dir <{}>"
    return [Study("whole_heads", name, own[0]["split"], command.format(name), "", own) for name, own in rows.items()]


def _rounded(seconds: Any) -> str:
    return "" if seconds is None else f"{float(seconds):.0f}"


def as_csv(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as the text of ``results.csv``.

    Args:
        rows: of all studies.
    """
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def page(studies: Sequence[Study]) -> str:
    """Return ``docs/results.md``: a table for all studies of the same cases, a line per network and class.

    Args:
        studies: all of them.
    """
    together: dict[tuple[str, ...], list[Study]] = {}
    for study in studies:
        compared = [study.name] if (STUDIES / study.name / COMPARED).is_file() else []
        together.setdefault((study.dataset, study.split, study.tolerance, *compared), []).append(study)
    return "\n".join([HEAD, *(_section(own, len(key) > KEY) for key, own in together.items())])


def _section(studies: Sequence[Study], compared: bool) -> str:
    """Return the table of studies of the same cases, with what each was made by."""
    first, names = studies[0], {bundle.name: bundle.network_name for bundle in all_bundles()}
    lines = []
    rows = [row for study in studies for row in study.rows]
    for network, name in dict.fromkeys((row["network"], row["class"]) for row in rows):
        chosen = [row for row in rows if (row["network"], row["class"]) == (network, name)]
        figures = [_mean(chosen, metric) for metric in ("dice", "nsd", "hd95")]
        counted = [str(len({row[key] for row in chosen if row[key]}) or "") for key in ("fold", "seed", "case")]
        lines.append([names.get(network, f"`{network}`"), name, *figures, *counted])
    nsd = f"NSD ({first.tolerance} mm)" if first.tolerance else "NSD"
    heads = ["network", "class", "Dice", nsd, "HD95 (mm)", "folds", "seeds", "cases"]
    # columns that nobody has measured
    kept = [number for number in range(len(heads)) if any(line[number] for line in lines)]
    table = format_table([heads[n] for n in kept], [[line[n] for n in kept] for line in lines])
    return "\n".join(
        [
            f"## {first.dataset}, {first.split}",
            "",
            '<div class="sortable" markdown>',
            "",
            *table,
            "",
            "</div>",
            "",
            *([f"[What may be said of the differences](studies/{first.name}/{COMPARED}).", ""] if compared else []),
            "```text",
            *dict.fromkeys(study.command for study in studies),
            "```",
            "",
        ]
    )


def _mean(rows: Sequence[Mapping[str, str]], metric: str) -> str:
    values = [value for row in rows if row[metric] and not math.isnan(value := float(row[metric]))]
    if not values:
        return ""
    spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    return f"{fmean(values):.4f}{spread}"
