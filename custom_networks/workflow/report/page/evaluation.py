"""The part of the page that shows what an evaluation of a segmentation wrote."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from custom_networks.workflow.report.page.charts import Row, agreement_plot, strip_plot
from custom_networks.workflow.report.page.colours import colours_of
from custom_networks.workflow.report.page.pictures import Album, Pictures
from custom_networks.workflow.report.page.privacy import Naming, naming
from custom_networks.workflow.report.page.scans import Structure
from custom_networks.workflow.report.statistics import TOLERANCE, Agreement, Summary, bland_altman, summarise

METRICS = {
    "dice": ("Dice", "overlap, 1 is perfect"),
    "nsd": ("Normalised surface Dice", "share of the surfaces within {tolerance}, 1 is perfect"),
    "hd95": ("Hausdorff distance, 95 %", "mm, 0 is perfect"),
    "mean_surface_distance": ("Mean surface distance", "mm, 0 is perfect"),
    "iou": ("Intersection over union", "1 is perfect"),
    "voe": ("Volumetric overlap error", "0 is perfect"),
    "rvd": ("Relative volume difference", "0 is perfect, above 0 the prediction is larger"),
}
FIRST = 4
"""How many of them are open when the page is."""
IN_TABLE = {"dice": "Dice", "nsd": "NSD", "hd95": "HD95"}
"""Those of the table of all cases."""
LATER = "nsd"
"""The one that evaluations before it was there do not have."""


@dataclass(frozen=True)
class MetricCard:
    """A metric of all classes.

    Args:
        title: its name.
        unit: what its numbers are.
        chart: a dot per case.
        rows: class, colour and summary.
    """

    title: str
    unit: str
    chart: Markup
    rows: Sequence[tuple[str, str, Summary]]


@dataclass(frozen=True)
class VolumeCard:
    """The agreement of the volumes of a class.

    Args:
        name: the class.
        colour: its colour.
        chart: differences over means.
        found: bias and limits, in mL.
    """

    name: str
    colour: str
    chart: Markup
    found: Agreement


@dataclass(frozen=True)
class ChosenCase:
    """A case that is shown.

    Args:
        title: why, such as "worst".
        label: what it is called.
        scores: Dice by class.
        pictures: what is shown of it.
    """

    title: str
    label: str
    scores: Sequence[tuple[str, str, float]]
    pictures: Pictures


@dataclass(frozen=True)
class Evaluation:
    """What the folder of an evaluation holds.

    Args:
        cases: how many.
        structures: the classes.
        metrics: one card per metric.
        volumes: one card per class.
        chosen: the worst, the median and the best case.
        columns: names of the metrics in the table.
        table: what the case is called, and these metrics of it by class.
        policy: what was measured how, by what it is about.
        hides_names: whether a case is not called by its name.
    """

    cases: int
    structures: Sequence[Structure]
    metrics: Sequence[MetricCard]
    volumes: Sequence[VolumeCard]
    chosen: Sequence[ChosenCase]
    columns: Sequence[str]
    table: Sequence[tuple[str, Sequence[float]]]
    policy: Mapping[str, str]
    hides_names: bool


def read_evaluation(folder: Path, summary: Mapping[str, Any], album: Album, show_names: bool = False) -> Evaluation:
    """Return what the folder of an evaluation holds.

    Args:
        folder: with ``metrics.csv`` and, if there are masks, ``<case>_seg.nii.gz``.
        summary: its ``metrics.json``.
        album: draws the pictures.
        show_names: whether the names of DICOM files and folders may be shown.

    Raises:
        FileNotFoundError: if there is no ``metrics.csv``.
        ValueError: if the files are not what an evaluation writes.
    """
    table = folder / "metrics.csv"
    if not table.is_file():
        raise FileNotFoundError(f"there is no file {table} beside metrics.json; evaluate again")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [_numbers(row) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{table} and metrics.json are not what an evaluation writes ({error!r}); evaluate again"
        ) from error
    if not {row["class"] for row in rows} <= set(summary["classes"]):
        raise ValueError(f"{table} has other classes than the metrics.json beside it; evaluate again")
    return _evaluation(folder, summary, rows, album, show_names)


def _numbers(row: Mapping[str, str]) -> dict[str, Any]:
    columns = [*METRICS, "reference_volume", "prediction_volume"]
    if LATER not in row:
        columns.remove(LATER)
    numbers = {column: float(row[column]) for column in columns}
    return {"case": row["case"], "class": row["class"], **numbers}


def _evaluation(
    folder: Path, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], album: Album, show_names: bool
) -> Evaluation:
    names = list(summary["classes"])
    colours, values = colours_of(names), summary.get("values", {})
    structures = [Structure(name, tuple(values.get(name, ())), colours[name]) for name in names]
    files = summary.get("files", {})
    cases = list(dict.fromkeys(str(row["case"]) for row in rows))
    called = {
        case: naming(case, list(files.get(case, {}).values()), number, folder, show_names=show_names)
        for number, case in enumerate(cases, start=1)
    }
    by_class = {name: [row for row in rows if row["class"] == name] for name in names}
    measured = [metric for metric in METRICS if all(metric in row for row in rows)]
    tolerance = f"{summary.get(TOLERANCE, math.nan):g} mm"
    metrics = [_metric(metric, tolerance, by_class, colours, called) for metric in measured]
    volumes = [_volumes(name, by_class[name], colours[name], called) for name in names]
    chosen = []
    for title, case in worst_median_best(cases, rows):
        scores = [(row["class"], colours[row["class"]], row["dice"]) for row in rows if row["case"] == case]
        pictures = _pictures(folder, case, files.get(case), structures, album, called[case])
        chosen.append(ChosenCase(title, called[case].label, scores, pictures))
    columns, table = [metric for metric in IN_TABLE if metric in measured], []
    for case in cases:
        own = {row["class"]: row for row in rows if row["case"] == case}
        table.append((called[case].label, [own[name][m] for m in columns for name in names if name in own]))
    hides_names = any(name.numbered for name in called.values())
    policy = summary.get("policy", {})
    return Evaluation(
        len(cases),
        structures,
        [card for card in metrics if card is not None],
        [card for card in volumes if card is not None],
        chosen,
        [IN_TABLE[metric] for metric in columns],
        table,
        policy,
        hides_names,
    )


def _metric(
    metric: str,
    tolerance: str,
    by_class: Mapping[str, Sequence[Mapping[str, Any]]],
    colours: Mapping[str, str],
    called: Mapping[str, Naming],
) -> MetricCard | None:
    strips, table = [], []
    for name, rows in by_class.items():
        labels = [called[row["case"]].label for row in rows]
        summary = summarise(metric, [row[metric] for row in rows], labels)
        if summary is None:
            continue
        pairs = [(row[metric], label) for row, label in zip(rows, labels, strict=True) if not math.isnan(row[metric])]
        strips.append(
            Row(name, colours[name], [v for v, _ in pairs], [c for _, c in pairs], summary.mean, summary.interval)
        )
        table.append((name, colours[name], summary))
    if not strips:
        return None
    title, unit = METRICS[metric][0], METRICS[metric][1].format(tolerance=tolerance)
    return MetricCard(title, unit, strip_plot(strips, unit, f"{title} of every case, by class"), table)


def _volumes(
    name: str, rows: Sequence[Mapping[str, Any]], colour: str, called: Mapping[str, Naming]
) -> VolumeCard | None:
    kept = [row for row in rows if row["reference_volume"] > 0 or row["prediction_volume"] > 0]
    if not kept:
        return None
    reference, prediction = ([row[f"{who}_volume"] / 1000 for row in kept] for who in ("reference", "prediction"))
    found = bland_altman(reference, prediction)
    labels = [called[row["case"]].label for row in kept]
    return VolumeCard(name, colour, agreement_plot(reference, prediction, labels, found, colour, name), found)


def worst_median_best(cases: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the cases with the lowest, the median and the highest mean Dice over the classes, each once.

    Args:
        cases: their names.
        rows: one per case and class, with "case" and "dice".

    Example:
        >>> worst_median_best(["a", "b"], [{"case": "a", "dice": 0.9}, {"case": "b", "dice": 0.5}])
        [('Worst case', 'b'), ('Best case', 'a')]
    """
    scores = {}
    for case in cases:
        own = [row["dice"] for row in rows if row["case"] == case and not math.isnan(row["dice"])]
        if own:
            scores[case] = sum(own) / len(own)
    ordered = sorted(scores, key=lambda case: scores[case])
    if len(ordered) < 2:
        return [("Only case", case) for case in ordered]
    chosen = [("Worst case", ordered[0]), ("Median case", ordered[len(ordered) // 2]), ("Best case", ordered[-1])]
    return [chosen[0], chosen[2]] if len(ordered) == 2 else chosen


def _pictures(
    folder: Path,
    case: str,
    files: Mapping[str, str] | None,
    structures: Sequence[Structure],
    album: Album,
    called: Naming,
) -> Pictures:
    if files is None:
        return Pictures(
            note="No pictures: metrics.json does not say where the image is; evaluate with the folder of the data set."
        )
    masks = {"reference": Path(files["label"])}
    mask = Path(files["prediction"]) if "prediction" in files else folder / f"{case}_seg.nii.gz"
    if mask.is_file():
        masks["prediction"] = mask
    found = album.pictures([files["image"]], masks, structures, called)
    if mask.is_file() or not found.planes:
        return found
    missing = "The reference alone: the folder holds no mask of this case."
    return Pictures(found.planes, found.masks, found.viewer, found.size, f"{missing} {found.note}".strip())
