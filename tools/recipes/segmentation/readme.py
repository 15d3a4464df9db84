"""docs/README.md of a segmentation bundle, every number from a stored run file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tools.recipes.bundle import Bundle

METRIC_HEADS = {
    "dice": "Dice",
    "iou": "IoU",
    "voe": "VOE",
    "rvd": "RVD",
    "mean_surface_distance": "mean surface distance (mm)",
    "hd95": "HD95 (mm)",
}


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Return mean and sample standard deviation of a list of numbers.

    Args:
        values: the numbers.
        digits: digits after the point.

    Example:
        >>> spread([0.5, 0.7], 2)
        '0.60 ± 0.14'
    """
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{deviation}"


def read_runs(folder: Path, variants: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Read the removal test's records by variant, each list ordered by seed.

    Args:
        folder: the bundle's folder.
        variants: profiles of the removal test.
    """
    runs = {}
    for variant in variants:
        paths = (folder / "docs" / "runs" / "removal").glob(f"{variant}_seed*.json")
        runs[variant] = sorted((json.loads(path.read_text()) for path in paths), key=_seed)
    return runs


def _seed(record: Mapping[str, Any]) -> int:
    return int(record["overrides"]["seed"])


def _dice(record: Mapping[str, Any]) -> float:
    return float(record["metrics"]["mean"]["dice"])


def _differences(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the differences of the mean Dice for the seeds that both variants were run with."""
    base = {_seed(record): _dice(record) for record in first}
    return [_dice(record) - base[_seed(record)] for record in second if _seed(record) in base]


def verdict(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Say in one sentence what the attention of the shipped network changes.

    Args:
        runs: records by variant, the one without attention first, the shipped one last.
    """
    plain, *_, shipped = runs.values()
    differences = _differences(plain, shipped)
    if not differences or not len(plain) == len(shipped) == len(differences):
        return "The removal test has not been run for this version."
    by_seed = ", ".join(f"{d:+.4f}" for d in differences)
    if all(d > 0 for d in differences):
        word = "The attention helps here"
    elif all(d < 0 for d in differences):
        word = "The attention does harm here"
    else:
        word = "The attention does not help here"
    deviation = f"± {stdev(differences):.4f} over {len(differences)} seeds" if len(differences) > 1 else "one seed"
    return (
        f"**{word}:** with it the mean Dice is {fmean(differences):+.4f} ({deviation}; by seed {by_seed}) against the "
        "same network without it, at the same budget ([removal test](#does-the-attention-matter))."
    )


def removal_table(bundle: Bundle, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the removal test as Markdown.

    Args:
        bundle: the specification.
        runs: records by variant, the one without attention first.
    """
    first = next(iter(runs.values()))
    if not first:
        return "Not measured yet."
    runs = {variant: group for variant, group in runs.items() if group}
    records = [record for group in runs.values() for record in group]
    classes = list(bundle.knobs["label_names"])[1:]
    budget = bundle.profiles["removal"]
    lines = [
        f"| variant | {' | '.join(f'Dice {name}' for name in classes)} | mean Dice | difference to the first row, by "
        "seed | parameters (share of attention) | GMACs (share of attention) |",
        "|" + "---|" * (len(classes) + 5),
    ]
    for variant, group in runs.items():
        cells = [spread([r["metrics"]["classes"][name]["dice"]["mean"] for r in group]) for name in classes]
        cells.append(spread([_dice(r) for r in group]))
        cells.append("" if group is first else ", ".join(f"{d:+.4f}" for d in _differences(first, group)))
        for key, unit, digits in (("parameters", 1, 0), ("macs", 1e9, 3)):
            value, base = group[0][key], first[0][key]
            cells.append(f"{value / unit:,.{digits}f} ({(value - base) / value:.1%})")
        lines.append(f"| `{variant}` | {' | '.join(cells)} |")
    machine = records[0]["machine"]
    names = ",".join(runs)
    seconds = max(r["train_seconds"] for r in records)
    return "\n".join(
        [
            f"Validation fold {bundle.knobs.get('fold', 0)}, {records[0]['metrics']['cases']} cases, last epoch (no "
            f"selection), mean ± standard deviation over {len(first)} seeds. Budget: profile `removal` "
            f"(`{json.dumps(budget)}`), {machine['threads']} thread of {machine['device']} per run, two runs side by "
            f"side, at most {seconds:.0f} s of training per run.",
            "",
            *lines,
            "",
            "Regenerate (the kept runs under `docs/runs/removal` are not repeated; delete them first):",
            "",
            "```bash",
            f"python -m tools ablate {bundle.name} --variants {names} --seeds {len(first)}",
            "```",
        ]
    )


def performance(record: Mapping[str, Any] | None, bundle: Bundle) -> str:
    """Return the metrics of the shipped weights as Markdown.

    Args:
        record: the run file of the shipped weights, or ``None``.
        bundle: the specification.
    """
    if record is None:
        return "Not measured yet."
    metrics, machine = record["metrics"], record["machine"]
    lines = [f"| class | {' | '.join(METRIC_HEADS.values())} | cases |", "|" + "---|" * (len(METRIC_HEADS) + 2)]
    for name, values in metrics["classes"].items():
        cells = [f"{values[m]['mean']:.4f} ± {values[m]['std']:.4f}" for m in METRIC_HEADS]
        lines.append(f"| {name} | {' | '.join(cells)} | {values['dice']['n']} |")
    validated = [point for point in record["curve"] if "validation_metric" in point]
    curve = ", ".join(f"{point['epoch']:.0f}: {point['validation_metric']:.4f}" for point in validated)
    where = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''} of {machine['device']}"
    on_gpu = "" if "NVIDIA" in machine["device"] else " Not measured on a GPU."
    return "\n".join(
        [
            f"`models/model.pt`: validation fold {bundle.knobs.get('fold', 0)} ({metrics['cases']} cases that were not "
            f"trained on), on the grid of the original images, mean ± standard deviation over the cases; the epoch was "
            f"chosen by the mean Dice on the same fold. {record['epochs']} epochs took "
            f"{record['train_seconds'] / 60:.1f} minutes on {where}.{on_gpu}",
            "",
            *lines,
            "",
            f"Mean validation Dice by epoch: {curve}.",
            "",
            "Where a class is missing: "
            + "; ".join(f"{case}: {rule}" for case, rule in metrics["policy"].items() if case != "grid")
            + ".",
            "",
            "Regenerate the weights, this table and the run file `docs/runs/training.json`:",
            "",
            "```bash",
            f"python -m tools bundles train {bundle.name}",
            "```",
        ]
    )


def readme(bundle: Bundle, folder: Path) -> str:
    """Return docs/README.md.

    Args:
        bundle: the specification.
        folder: the bundle's folder, whose ``docs/runs`` hold the numbers.
    """
    path = folder / "docs" / "runs" / "training.json"
    record = json.loads(path.read_text()) if path.is_file() else None
    runs = read_runs(folder, bundle.removal_profiles)
    template = Path(__file__).with_name("readme.md").read_text()
    fields = {
        "title": bundle.title,
        "verdict": verdict(runs),
        "summary": bundle.summary,
        "name": bundle.name,
        "network": bundle.network["_target_"],
        "task": bundle.metadata["task"],
        "intended_use": bundle.metadata["intended_use"],
        "data_source": bundle.metadata["data_source"],
        "image_classes": bundle.metadata["image_classes"],
        "label_classes": bundle.metadata["label_classes"],
        "expected": bundle.expected,
        "patch": " x ".join(str(n) for n in bundle.knobs["patch_size"]),
        "spacing": " x ".join(f"{n:g}" for n in bundle.knobs["spacing"]),
        "batch_size": bundle.knobs["batch_size"],
        "epochs": bundle.knobs["epochs"],
        "learning_rate": bundle.knobs["learning_rate"],
        "mirror": bundle.knobs.get("mirror_axes") or "none (chirality matters)",
        "parameters": f"{record['parameters']:,}" if record else "not counted yet",
        "macs": f"{record['macs'] / 1e9:.2f}" if record else "not counted yet",
        "performance": performance(record, bundle),
        "removal": removal_table(bundle, runs),
        "profiles": "\n".join(f"- `{name}.json`: `{json.dumps(values)}`" for name, values in bundle.profiles.items()),
        "references": "\n".join(f"- {reference}" for reference in bundle.metadata["references"]),
    }
    for key, value in fields.items():
        template = template.replace("{{ " + key + " }}", str(value))
    return template
