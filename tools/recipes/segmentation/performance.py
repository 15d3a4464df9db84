"""How good the shipped weights are, from the run file of their training or from a cross-validation that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from custom_networks.workflow.report.statistics import TOLERANCE
from tools.recipes.bundle import Bundle
from tools.recipes.markdown import describe_training_time, format_table, keep_in_a_clone
from tools.recipes.model_card import Metric
from tools.recipes.removal import Record, Score
from tools.recipes.studies import read_study

METRIC_HEADS = {
    "dice": "Dice",
    "nsd": "NSD",
    "iou": "IoU",
    "voe": "VOE",
    "rvd": "RVD",
    "mean_surface_distance": "mean surface distance (mm)",
    "hd95": "HD95 (mm)",
}
NOT_MEASURED = "not measured yet"


def _dice_of(name: str) -> Callable[[Record], float]:
    return lambda record: float(record["metrics"]["classes"][name]["dice"]["mean"])


def _held_back(bundle: Bundle, record: Record) -> str:
    cases, fold = record["metrics"]["cases"], bundle.knobs.get("fold", 0)
    # runs of before the bundle had the folds that it has now
    earlier = bundle.folds is not None and cases != len(bundle.folds[fold])
    return f"Validation fold {fold}, {cases} cases" + " (of earlier folds, by crop)" * earlier


SCORE = Score(
    name="mean Dice",
    of=lambda record: float(record["metrics"]["mean"]["dice"]),
    columns=lambda bundle: {f"Dice {name}": _dice_of(name) for name in bundle.knobs["label_names"][1:]},
    cases=_held_back,
)


def _figures(record: Record, bundle: Bundle) -> tuple[Mapping[str, Any], str] | None:
    """Return the figures by class and metric that stand for the shipped weights, and of which cases they are."""
    if bundle.study is None:
        metrics = record["metrics"]
        return metrics["classes"], f"fold {bundle.weights_fold}, {metrics['cases']} cases"
    study = read_study(bundle.study)
    if study is None:
        return None
    report = study["report"]
    return report["classes"], f"{len(report['folds']['finished'])}-fold cross-validation, {_cases(report)} cases"


def _cases(report: Mapping[str, Any]) -> int:
    return max(int(own["dice"]["n"]) for own in report["classes"].values())


def state_result(record: Record, bundle: Bundle) -> str:
    """Return the result of a bundle in a few words, for tables.

    Args:
        record: the run file of the shipped weights.
        bundle: the specification.
    """
    found = _figures(record, bundle)
    if found is None:
        return NOT_MEASURED
    classes, cases = found
    dice = ", ".join(f"{name} {values['dice']['mean']:.4f}" for name, values in classes.items())
    return f"Dice {dice} ({cases}, original grid)"


def list_metrics(record: Record, bundle: Bundle) -> list[Metric]:
    """Return the figures for the model card.

    Args:
        record: the run file of the shipped weights.
        bundle: the specification.
    """
    found = _figures(record, bundle)
    if found is None:
        return []
    classes, cases = found
    return [
        (kind, f"{head} {name} ({cases})", values[kind]["mean"])
        for name, values in classes.items()
        for kind, head in (("dice", "Dice"), ("hd95", METRIC_HEADS["hd95"]))
    ]


def describe_performance(record: Record | None, bundle: Bundle) -> str:
    """Return the metrics that stand for the shipped weights as Markdown.

    Args:
        record: the run file of the shipped weights, or ``None``.
        bundle: the specification.
    """
    study = read_study(bundle.study)
    if record is None or (bundle.study is not None and study is None):
        return "Not measured yet."
    lines = _held_back_fold(record, bundle) if study is None else _cross_validation(record, bundle, study)
    return "\n".join(lines)


def _held_back_fold(record: Record, bundle: Bundle) -> Iterator[str]:
    metrics = record["metrics"]
    yield (
        f"`models/model.pt`: validation fold {bundle.weights_fold} ({metrics['cases']} cases that were not trained "
        "on), on the grid of the original images, mean ± standard deviation over the cases; the epoch was chosen by "
        f"the mean Dice on the same fold. {describe_training_time(record)}"
    )
    yield ""
    heads = _heads(metrics)
    rows = [
        [name, *(f"{values[m]['mean']:.4f} ± {values[m]['std']:.4f}" for m in heads), values["dice"]["n"]]
        for name, values in metrics["classes"].items()
    ]
    yield from format_table(["class", *heads.values(), "cases"], rows)
    validated = [point for point in record["curve"] if "validation_metric" in point]
    curve = ", ".join(f"{point['epoch']:.0f}: {point['validation_metric']:.4f}" for point in validated)
    yield from ["", f"Mean validation Dice by epoch: {curve}.", ""]
    yield from [_missing(metrics["policy"]), ""]
    yield from keep_in_a_clone(
        "Regenerate the weights, this table and the run file `docs/runs/training.json`:",
        "",
        "```bash",
        f"python -m tools bundles train {bundle.name}",
        "```",
    )


def _cross_validation(record: Record, bundle: Bundle, study: Mapping[str, Any]) -> Iterator[str]:
    report = study["report"]
    folds = len(report["folds"]["finished"])
    yield (
        f"{folds}-fold cross-validation on {study['dataset']}, {study['split']}: each of the {_cases(report)} cases "
        f"is measured once, by the one of {folds} networks that was not trained on it, after the last epoch, on the "
        "grid of the original images. Mean ± standard deviation over the cases, and the 95 % bootstrap interval of the "
        f"mean Dice over the {report['cases']['patients']} patients."
    )
    yield ""
    heads = _heads(report)
    rows = [
        [
            name,
            f"{values['dice']['mean']:.4f} ± {values['dice']['sd']:.4f}",
            "{:.4f} to {:.4f}".format(*values["dice"]["interval"]),
            *(f"{values[m]['mean']:.4f} ± {values[m]['sd']:.4f}" for m in heads if m != "dice"),
            values["dice"]["n"],
        ]
        for name, values in report["classes"].items()
    ]
    yield from format_table(["class", "Dice", "interval", *[h for m, h in heads.items() if m != "dice"], "cases"], rows)
    yield ""
    by_fold = [
        f"{name} {', '.join(f'{mean:.4f}' for mean in values['dice']['fold_means'].values())}"
        for name, values in report["classes"].items()
    ]
    yield f"Dice by fold: {'; '.join(by_fold)}. {_missing(report['policy'])}"
    yield ""
    yield (
        "`models/model.pt` is the same recipe trained on all of these cases, its last epoch. So no case here is new to "
        f"it, and the figures above are those of the {folds} networks beside it. {describe_training_time(record)}"
    )
    yield ""
    data = json.dumps({"dataset_dir": bundle.knobs["dataset_dir"]})
    yield from keep_in_a_clone(
        f"The table is in `docs/studies/{bundle.study}`, made by the first command; the second makes the weights and "
        f"`docs/runs/training.json`. `{report['profile']}` is {data}.",
        "",
        "```text",
        study["command"],
        f"python -m tools bundles train {bundle.name}",
        "```",
    )


def _heads(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the headings of the metrics; run files from before the NSD was measured lack it and its tolerance."""
    tolerance = metrics.get(TOLERANCE)
    return {
        m: f"{head} ({tolerance:g} mm)" if m == "nsd" else head
        for m, head in METRIC_HEADS.items()
        if m != "nsd" or tolerance
    }


def _missing(policy: Mapping[str, str]) -> str:
    rules = "; ".join(f"{case}: {rule}" for case, rule in policy.items() if case.startswith("empty"))
    return f"Where a class is missing: {rules}."
