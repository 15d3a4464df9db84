"""docs/README.md of a classification bundle, every number from a stored run file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from custom_networks.workflow.report.classification_report import interval_text
from tools.recipes.bundle import Bundle
from tools.recipes.exports import exports
from tools.recipes.removal import (
    Record,
    Runs,
    Score,
    common_fields,
    differences,
    fill,
    paragraphs,
    read_runs,
    removal_table,
    single_seed_table,
    spread,
    training_time,
    verdict,
)

METRIC_HEADS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "brier": "Brier score",
}


def _metric(name: str) -> Callable[[Record], float]:
    return lambda record: float(record["metrics"]["metrics"][name]["value"])


def _cases(bundle: Bundle, record: Record) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in record["metrics"]["cases_per_class"].items())
    return f"Split {bundle.knobs['evaluation_split']}, {record['metrics']['cases']} cases ({counts})"


SCORE = Score(
    name="AUC",
    of=_metric("auc"),
    columns=lambda _: {METRIC_HEADS[name]: _metric(name) for name in ("average_precision", "balanced_accuracy")},
    cases=_cases,
)


def headline(record: Record) -> str:
    """Return the result of a run in a few words, for tables.

    Args:
        record: the run file.
    """
    auc = record["metrics"]["metrics"]["auc"]
    return (
        f"AUC {auc['value']:.3f} (95 % interval {interval_text(auc['interval'])}, {record['metrics']['cases']} cases)"
    )


def study_sentence(runs: Runs) -> str:
    """Say what the table of many modules shows, and what it cannot show.

    Args:
        runs: records by variant, the one without attention first.
    """
    plain, *others = runs.values()
    seeds = len(plain)
    pairs = {group[0]["profiles"][-1]: differences(plain, group, SCORE) for group in others if group}
    changes = {name: values for name, values in pairs.items() if len(values) == seeds}
    if seeds < 2 or len(changes) < 2:
        return ""
    better = [name for name, values in changes.items() if min(values) > 0]
    worse = [name for name, values in changes.items() if max(values) < 0]
    best, values = max(changes.items(), key=lambda item: fmean(item[1]))
    scores = [SCORE.of(record) for record in plain]
    chance = len(changes) / 2**seeds
    mean, deviation, alone = fmean(values), stdev(values), max(scores) - min(scores)
    return (
        f"What it shows: of {len(changes)} modules {len(better)} {_listed(better)}gave a higher AUC than none in all "
        f"{seeds} seeds and {len(worse)} {_listed(worse)}a lower one; if none had any effect, about {chance:.1f} of "
        f"each would be expected. The largest mean difference is {mean:+.3f} ± {deviation:.3f} (`{best}`); the runs "
        f"without attention alone spread over {alone:.3f}, and the bootstrap interval of one run is about "
        f"{_width(plain):.2f} wide. It does not rank the modules."
    )


def _listed(names: Sequence[str]) -> str:
    return f"({', '.join(f'`{name}`' for name in names)}) " if names else ""


def _width(group: Sequence[Record]) -> float:
    ends = [record["metrics"]["metrics"]["auc"]["interval"] for record in group]
    return fmean(high - low for low, high in ends)


def _with_interval(values: Mapping[str, Any]) -> str:
    return f"{values['value']:.3f} ({interval_text(values['interval'])})"


def against(records: Sequence[Record], forest: Mapping[str, Any] | None) -> list[str]:
    """Say how far the network is above or below the random forests, and how much that means.

    Args:
        records: run files by seed.
        forest: run file of the random forests, or ``None``.
    """
    if not forest:
        return []
    own = fmean(SCORE.of(record) for record in records)
    distances = [
        f"{own - group['mean']['auc']:+.3f} from those trained on {' and '.join(group['trained_on']).replace('_', ' ')}"
        for group in forest["forests"]
    ]
    return [
        f"The distance of the network's mean AUC from that of the forests is {' and '.join(distances)}, where the "
        f"interval of a single run is {_width(records):.2f} wide.",
        "",
    ]


def performance(records: Sequence[Record], forest: Mapping[str, Any] | None, bundle: Bundle) -> str:
    """Return the metrics of the shipped weights and of the other seeds as Markdown.

    Args:
        records: run files by seed, that of the shipped weights first.
        forest: run file of the random forest, or ``None``.
        bundle: the specification.
    """
    if not records:
        return "Not measured yet."
    names = list(bundle.knobs["label_names"])
    shipped = records[0]
    lines = [f"| run | {' | '.join(METRIC_HEADS.values())} |", "|" + "---|" * (len(METRIC_HEADS) + 1)]
    for record in records:
        cells = [_with_interval(record["metrics"]["metrics"][metric]) for metric in METRIC_HEADS]
        seed = record["overrides"].get("seed", 0)
        lines.append(f"| seed {seed}{' (shipped)' if record is shipped else ''} | {' | '.join(cells)} |")
    if len(records) > 1:
        means = [spread([_metric(metric)(record) for record in records], 3) for metric in METRIC_HEADS]
        lines.append(f"| mean ± standard deviation | {' | '.join(means)} |")
    for group in (forest or {}).get("forests", []):
        means = [spread([run[metric]["value"] for run in group["seeds"]], 3) for metric in METRIC_HEADS]
        words = (
            f"random forest trained on {' and '.join(group['trained_on']).replace('_', ' ')} ({group['cases']} cases)"
        )
        lines.append(f"| {words} | {' | '.join(means)} |")
    curve = ", ".join(
        f"{point['epoch']:.0f}: {point['validation_metric']:.3f}"
        for point in shipped["curve"]
        if "validation_metric" in point
    )
    confusion = [f"| true class | {' | '.join(f'called {name}' for name in names)} |", "|" + "---|" * (len(names) + 1)]
    for name, row in zip(names, shipped["metrics"]["confusion"], strict=True):
        confusion.append(f"| {name} | {' | '.join(str(n) for n in row)} |")
    rare = min(shipped["metrics"]["cases_per_class"].items(), key=lambda item: item[1])
    width = _width(records)
    commands = [f"python -m tools bundles train {bundle.name} --seeds {len(records)} --jobs 2"]
    if forest:
        commands.append(f"python -m tools forest {bundle.knobs['dataset_dir']} --output {FOREST.format(bundle.name)}")
    return "\n".join(
        [
            f"{_cases(bundle, shipped)}, none of which was used in training or for choosing the epoch (a fifth of the "
            "training split was held out for that). In brackets the 95 % bootstrap interval over the cases: with "
            f"{rare[1]} cases of the class {rare[0]} that of the AUC is {width:.2f} wide, so differences below that "
            f"mean little. {training_time(shipped)}",
            "",
            *lines,
            "",
            *against(records, forest),
            f"`models/model.pt` is that of seed {shipped['overrides'].get('seed', 0)}, not chosen by these figures. "
            "Its confusion matrix, each case given the class of the highest probability:",
            "",
            *confusion,
            "",
            f"Its AUC on the held-out fifth by epoch: {curve}.",
            "",
            *(f"{name[0].upper()}{name[1:]}: {rule}." for name, rule in shipped["metrics"]["policy"].items()),
            "",
            "Regenerate the weights, the table and the run files under `docs/runs`:",
            "",
            "```bash",
            *commands,
            "```",
        ]
    )


FOREST = "bundles/{}/docs/runs/forest.json"


def readme(bundle: Bundle, folder: Path) -> str:
    """Return docs/README.md.

    Args:
        bundle: the specification.
        folder: the bundle's folder, whose ``docs/runs`` hold the numbers.
    """
    paths = [folder / "docs" / "runs" / "training.json", *sorted(folder.glob("docs/runs/training_seed*.json"))]
    records = [json.loads(path.read_text()) for path in paths if path.is_file()]
    forest = folder / "docs" / "runs" / "forest.json"
    runs = read_runs(folder, bundle.removal_profiles)
    single = read_runs(folder, bundle.single_seed_profiles)
    fields = {
        **common_fields(bundle, records[0] if records else None),
        "exports": exports(bundle, folder),
        "verdict": verdict(runs, SCORE),
        "mirror": bundle.knobs.get("mirror_axes") or "none",
        "range": " to ".join(f"{value:g}" for value in bundle.knobs["intensity_range"]),
        "performance": performance(records, json.loads(forest.read_text()) if forest.is_file() else None, bundle),
        "removal": paragraphs(
            removal_table(bundle, runs, SCORE), study_sentence(runs), single_seed_table(bundle, runs, single, SCORE)
        ),
    }
    return fill(Path(__file__).with_name("readme.md"), fields)
