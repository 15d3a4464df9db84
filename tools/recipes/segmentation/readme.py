"""docs/README.md of a segmentation bundle, every number from a stored run file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from custom_networks.workflow.report.statistics import TOLERANCE
from custom_networks.workflow.train.checkpoint_files import read_checkpoint
from tools.recipes.bundle import Bundle
from tools.recipes.engines import describe_engines
from tools.recipes.exports import describe_exports
from tools.recipes.gate_table import tabulate_gates
from tools.recipes.head_figures import describe_head_figures
from tools.recipes.markdown import (
    collect_fields,
    describe_training_time,
    fill_template,
    format_table,
    join_paragraphs,
    keep_in_a_clone,
)
from tools.recipes.model_card import Metric
from tools.recipes.removal import Record, Score, read_costs, read_variants
from tools.recipes.removal_text import state_verdict, tabulate_removal, tabulate_single_seeds
from tools.recipes.segmentation.whole_heads import describe_whole_heads

METRIC_HEADS = {
    "dice": "Dice",
    "nsd": "NSD",
    "iou": "IoU",
    "voe": "VOE",
    "rvd": "RVD",
    "mean_surface_distance": "mean surface distance (mm)",
    "hd95": "HD95 (mm)",
}


def _dice_of(name: str) -> Callable[[Record], float]:
    return lambda record: float(record["metrics"]["classes"][name]["dice"]["mean"])


SCORE = Score(
    name="mean Dice",
    of=lambda record: float(record["metrics"]["mean"]["dice"]),
    columns=lambda bundle: {f"Dice {name}": _dice_of(name) for name in bundle.knobs["label_names"][1:]},
    cases=lambda bundle, record: f"Validation fold {bundle.knobs.get('fold', 0)}, {record['metrics']['cases']} cases",
)


def state_result(record: Record) -> str:
    """Return the result of a run in a few words, for tables.

    Args:
        record: the run file.
    """
    classes = record["metrics"]["classes"].items()
    dice = ", ".join(f"{name} {values['dice']['mean']:.4f}" for name, values in classes)
    return f"Dice {dice} (fold 0, original grid)"


def list_metrics(record: Record, bundle: Bundle) -> list[Metric]:
    """Return the figures of a run for the model card.

    Args:
        record: the run file.
        bundle: the specification.
    """
    cases = f"fold {bundle.knobs.get('fold', 0)}, {record['metrics']['cases']} cases"
    return [
        (kind, f"{head} {name} ({cases})", values[kind]["mean"])
        for name, values in record["metrics"]["classes"].items()
        for kind, head in (("dice", "Dice"), ("hd95", METRIC_HEADS["hd95"]))
    ]


def describe_performance(record: Record | None, bundle: Bundle) -> str:
    """Return the metrics of the shipped weights as Markdown.

    Args:
        record: the run file of the shipped weights, or ``None``.
        bundle: the specification.
    """
    if record is None:
        return "Not measured yet."
    metrics = record["metrics"]
    tolerance = metrics.get(TOLERANCE)
    # run files from before the NSD was measured have neither it nor its tolerance
    heads = {
        m: f"{head} ({tolerance:g} mm)" if m == "nsd" else head
        for m, head in METRIC_HEADS.items()
        if m != "nsd" or tolerance
    }
    rows = [
        [name, *(f"{values[m]['mean']:.4f} ± {values[m]['std']:.4f}" for m in heads), values["dice"]["n"]]
        for name, values in metrics["classes"].items()
    ]
    validated = [point for point in record["curve"] if "validation_metric" in point]
    curve = ", ".join(f"{point['epoch']:.0f}: {point['validation_metric']:.4f}" for point in validated)
    return "\n".join(
        [
            f"`models/model.pt`: validation fold {bundle.knobs.get('fold', 0)} ({metrics['cases']} cases that were not "
            f"trained on), on the grid of the original images, mean ± standard deviation over the cases; the epoch was "
            f"chosen by the mean Dice on the same fold. {describe_training_time(record)}",
            "",
            *format_table(["class", *heads.values(), "cases"], rows),
            "",
            f"Mean validation Dice by epoch: {curve}.",
            "",
            "Where a class is missing: "
            + "; ".join(f"{case}: {rule}" for case, rule in metrics["policy"].items() if case.startswith("empty"))
            + ".",
            "",
            *keep_in_a_clone(
                "Regenerate the weights, this table and the run file `docs/runs/training.json`:",
                "",
                "```bash",
                f"python -m tools bundles train {bundle.name}",
                "```",
            ),
        ]
    )


def describe_gates(bundle: Bundle, folder: Path) -> str:
    """Return what training has made of the gates of the shipped weights, or nothing for a network without gates.

    Args:
        bundle: the specification.
        folder: the bundle's folder, whose ``models/model.pt`` is read.
    """
    weights = folder / "models" / "model.pt"
    if bundle.network.get("form") not in ("gated", "released") or not weights.is_file():
        return ""
    return "\n".join(
        [
            "The gates of the shipped weights, in brackets the change from where they started:",
            "",
            tabulate_gates(read_checkpoint(weights), str(weights)),
            "",
            *keep_in_a_clone("```bash", f"python -m tools gates {bundle.name}", "```"),
        ]
    )


def render_readme(bundle: Bundle, folder: Path) -> str:
    """Return docs/README.md.

    Args:
        bundle: the specification.
        folder: the bundle's folder, whose ``docs/runs`` hold the numbers.
    """
    path = folder / "docs" / "runs" / "training.json"
    record = json.loads(path.read_text()) if path.is_file() else None
    variants = read_variants(folder, bundle.removal_profiles)
    singles = read_variants(folder, bundle.single_seed_profiles)
    costs = read_costs(folder)
    fields = {
        **collect_fields(bundle, record),
        "engines": describe_engines(folder),
        "exports": describe_exports(bundle, folder),
        "verdict": state_verdict(variants, SCORE),
        "mirror": bundle.knobs.get("mirror_axes") or "none (chirality matters)",
        "notes": "".join(f"\n- {note}" for note in bundle.notes),
        "whole_heads": describe_whole_heads(bundle),
        "performance": describe_performance(record, bundle),
        "head_figures": describe_head_figures(bundle, folder),
        "removal": join_paragraphs(
            tabulate_removal(bundle, variants, SCORE, costs),
            tabulate_single_seeds(bundle, variants, singles, SCORE, costs),
            describe_gates(bundle, folder),
        ),
    }
    return fill_template(Path(__file__).with_name("readme.md"), fields)
