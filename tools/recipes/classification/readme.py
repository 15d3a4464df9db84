"""docs/README.md of a classification bundle, every number from a stored run file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from custom_networks.workflow.report.classification_report import interval_text
from tools.recipes.bundle import Bundle
from tools.recipes.engines import describe_engines
from tools.recipes.exports import describe_exports
from tools.recipes.markdown import (
    collect_fields,
    describe_training_time,
    fill_template,
    format_spread,
    format_table,
    join_paragraphs,
    keep_in_a_clone,
)
from tools.recipes.model_card import Metric
from tools.recipes.removal import Record, Score, Variant, pair_differences, read_variants
from tools.recipes.removal_text import state_verdict, tabulate_removal, tabulate_single_seeds

METRIC_HEADS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "brier": "Brier score",
}
FOREST = Path("docs", "runs", "forest.json")


def _value_of(metric: str) -> Callable[[Record], float]:
    return lambda record: float(record["metrics"]["metrics"][metric]["value"])


def _count_cases(bundle: Bundle, record: Record) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in record["metrics"]["cases_per_class"].items())
    return f"Split {bundle.knobs['evaluation_split']}, {record['metrics']['cases']} cases ({counts})"


SCORE = Score(
    name="AUC",
    of=_value_of("auc"),
    columns=lambda _: {METRIC_HEADS[name]: _value_of(name) for name in ("average_precision", "balanced_accuracy")},
    cases=_count_cases,
)


def state_result(record: Record, _: Bundle) -> str:
    """Return the result of a bundle in a few words, for tables.

    Args:
        record: the run file of the shipped weights.
        _: the specification.
    """
    auc = record["metrics"]["metrics"]["auc"]
    return (
        f"AUC {auc['value']:.3f} (95 % interval {interval_text(auc['interval'])}, {record['metrics']['cases']} cases)"
    )


def list_metrics(record: Record, bundle: Bundle) -> list[Metric]:
    """Return the figures of a run for the model card.

    Args:
        record: the run file.
        bundle: the specification.
    """
    cases = f"split {bundle.knobs['evaluation_split']}, {record['metrics']['cases']} cases"
    return [
        (kind, f"{METRIC_HEADS[kind]} ({cases})", _value_of(kind)(record))
        for kind in ("auc", "sensitivity", "specificity")
    ]


def state_study(variants: Sequence[Variant]) -> str:
    """Say what the table of many modules shows, and what it cannot show.

    Args:
        variants: the one without attention first.
    """
    plain, *others = variants
    seeds = len(plain.runs)
    changes = {variant.profile: pair_differences(plain, variant, SCORE) for variant in others}
    changes = {name: values for name, values in changes.items() if len(values) == seeds}
    if seeds < 2 or len(changes) < 2:
        return ""
    better = [name for name, values in changes.items() if min(values) > 0]
    worse = [name for name, values in changes.items() if max(values) < 0]
    best, values = max(changes.items(), key=lambda item: fmean(item[1]))
    scores = [SCORE.of(record) for record in plain.runs.values()]
    chance = len(changes) / 2**seeds
    mean, deviation, alone = fmean(values), stdev(values), max(scores) - min(scores)
    return (
        f"What it shows: of {len(changes)} modules {len(better)} {_list_names(better)}gave a higher AUC than none in "
        f"all {seeds} seeds and {len(worse)} {_list_names(worse)}a lower one; if none had any effect, about "
        f"{chance:.1f} of each would be expected. The largest mean difference is {mean:+.3f} ± {deviation:.3f} "
        f"(`{best}`); the runs without attention alone spread over {alone:.3f}, and the bootstrap interval of one run "
        f"is about {_mean_width(plain.runs.values()):.2f} wide. It does not rank the modules."
    )


def _list_names(names: Sequence[str]) -> str:
    return f"({', '.join(f'`{name}`' for name in names)}) " if names else ""


def _mean_width(records: Iterable[Record]) -> float:
    """Return the mean width of the intervals of the AUC."""
    ends = [record["metrics"]["metrics"]["auc"]["interval"] for record in records]
    return fmean(high - low for low, high in ends)


def _name_splits(forests: Mapping[str, Any]) -> str:
    """Return in words what random forests were trained on."""
    return " and ".join(forests["trained_on"]).replace("_", " ")


def compare_with_forests(records: Sequence[Record], forest: Mapping[str, Any]) -> str:
    """Say how far the network is above or below the random forests, and how much that means.

    Args:
        records: run files by seed.
        forest: run file of the random forests.
    """
    own = fmean(SCORE.of(record) for record in records)
    distances = [
        f"{own - forests['mean']['auc']:+.3f} from those trained on {_name_splits(forests)}"
        for forests in forest["forests"]
    ]
    return (
        f"The distance of the network's mean AUC from that of the forests is {' and '.join(distances)}, where the "
        f"interval of a single run is {_mean_width(records):.2f} wide."
    )


def tabulate_metrics(records: Sequence[Record], forest: Mapping[str, Any] | None) -> list[str]:
    """Return the table of the metrics: every seed with its intervals, their mean, and the random forests.

    Args:
        records: run files by seed, that of the shipped weights first.
        forest: run file of the random forests, or ``None``.
    """
    rows = []
    for record in records:
        seed = f"seed {record['overrides'].get('seed', 0)}{' (shipped)' if record is records[0] else ''}"
        values = [record["metrics"]["metrics"][metric] for metric in METRIC_HEADS]
        rows.append([seed, *(f"{own['value']:.3f} ({interval_text(own['interval'])})" for own in values)])
    if len(records) > 1:
        means = [format_spread([_value_of(metric)(record) for record in records], 3) for metric in METRIC_HEADS]
        rows.append(["mean ± standard deviation", *means])
    for forests in (forest or {}).get("forests", []):
        means = [format_spread([run[metric]["value"] for run in forests["seeds"]], 3) for metric in METRIC_HEADS]
        rows.append([f"random forest trained on {_name_splits(forests)} ({forests['cases']} cases)", *means])
    return format_table(["run", *METRIC_HEADS.values()], rows)


def describe_performance(records: Sequence[Record], forest: Mapping[str, Any] | None, bundle: Bundle) -> str:
    """Return the metrics of the shipped weights and of the other seeds as Markdown.

    Args:
        records: run files by seed, that of the shipped weights first.
        forest: run file of the random forests, or ``None``.
        bundle: the specification.
    """
    if not records:
        return "Not measured yet."
    shipped = records[0]
    metrics = shipped["metrics"]
    names = list(bundle.knobs["label_names"])
    confusion = [[name, *row] for name, row in zip(names, metrics["confusion"], strict=True)]
    validated = [point for point in shipped["curve"] if "validation_metric" in point]
    curve = ", ".join(f"{point['epoch']:.0f}: {point['validation_metric']:.3f}" for point in validated)
    rare, rare_cases = min(metrics["cases_per_class"].items(), key=lambda item: item[1])
    commands = [f"python -m tools bundles train {bundle.name} --seeds {len(records)} --jobs 2"]
    if forest:
        output = Path("bundles", bundle.name, FOREST)
        commands.append(f"python -m tools forest {bundle.knobs['dataset_dir']} --output {output}")
    return "\n".join(
        [
            f"{_count_cases(bundle, shipped)}, none of which was used in training or for choosing the epoch (a fifth "
            "of the training split was held out for that). In brackets the 95 % bootstrap interval over the cases: "
            f"with {rare_cases} cases of the class {rare} that of the AUC is {_mean_width(records):.2f} wide, so "
            f"differences below that mean little. {describe_training_time(shipped)}",
            "",
            *tabulate_metrics(records, forest),
            "",
            *([compare_with_forests(records, forest), ""] if forest else []),
            f"`models/model.pt` is that of seed {shipped['overrides'].get('seed', 0)}, not chosen by these figures. "
            "Its confusion matrix, each case given the class of the highest probability:",
            "",
            *format_table(["true class", *(f"called {name}" for name in names)], confusion),
            "",
            f"Its AUC on the held-out fifth by epoch: {curve}.",
            "",
            *(f"{name[0].upper()}{name[1:]}: {rule}." for name, rule in metrics["policy"].items()),
            "",
            *keep_in_a_clone(
                "Regenerate the weights, the table and the run files under `docs/runs`:",
                "",
                "```bash",
                *commands,
                "```",
            ),
        ]
    )


def render_readme(bundle: Bundle, folder: Path) -> str:
    """Return docs/README.md.

    Args:
        bundle: the specification.
        folder: the bundle's folder, whose ``docs/runs`` hold the numbers.
    """
    paths = [folder / "docs" / "runs" / "training.json", *sorted(folder.glob("docs/runs/training_seed*.json"))]
    records = [json.loads(path.read_text()) for path in paths if path.is_file()]
    forest = folder / FOREST
    variants = read_variants(folder, bundle.removal_profiles)
    singles = read_variants(folder, bundle.single_seed_profiles)
    fields = {
        **collect_fields(bundle, records[0] if records else None),
        "engines": describe_engines(folder),
        "exports": describe_exports(bundle, folder),
        "verdict": state_verdict(variants, SCORE),
        "mirror": bundle.knobs.get("mirror_axes") or "none",
        "range": " to ".join(f"{value:g}" for value in bundle.knobs["intensity_range"]),
        "performance": describe_performance(
            records, json.loads(forest.read_text()) if forest.is_file() else None, bundle
        ),
        "removal": join_paragraphs(
            tabulate_removal(bundle, variants, SCORE),
            state_study(variants),
            tabulate_single_seeds(bundle, variants, singles, SCORE),
        ),
    }
    return fill_template(Path(__file__).with_name("readme.md"), fields)
