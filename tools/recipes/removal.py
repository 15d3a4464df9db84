"""The removal test as text: what the runs with and without attention say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tools.recipes.bundle import Bundle

Record = Mapping[str, Any]
Runs = Mapping[str, Sequence[Record]]
Cell = Callable[[Sequence[Record]], str]
Columns = Mapping[str, Cell]
Costs = Mapping[str, Any]

COST_FILE = Path("docs", "runs", "removal", "cost.json")
COST_HEADS = {"step_seconds": ("step, s", ".3f"), "step_peak_mib": ("step peak, MiB", ".0f")}


@dataclass(frozen=True)
class Score:
    """The number by which the runs of a recipe are compared.

    Args:
        name: what it is called in a sentence.
        of: its value in a run's record; greater is better.
        columns: the columns of the table before it, by heading, for a bundle.
        cases: the cases that it was measured on, in words, for a bundle and a record.
    """

    name: str
    of: Callable[[Record], float]
    columns: Callable[[Bundle], Mapping[str, Callable[[Record], float]]]
    cases: Callable[[Bundle, Record], str]


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


def read_costs(folder: Path) -> dict[str, Any] | None:
    """Return what ``python -m tools ablate cost`` measured, or ``None``.

    Args:
        folder: the bundle's folder.
    """
    path = folder / COST_FILE
    return json.loads(path.read_text()) if path.is_file() else None


def _cost_columns(runs: Runs, costs: Costs | None) -> Columns:
    """Return the columns of time and peak memory of a training step, if any of the variants was measured."""
    measured = costs["variants"] if costs else {}
    if not measured.keys() & runs.keys():
        return {}
    names = {id(group): variant for variant, group in runs.items()}

    def column(key: str, digits: str) -> Cell:
        def cell(group: Sequence[Record]) -> str:
            own = measured.get(names[id(group)])
            return f"{own[key]:{digits}}" if own else ""

        return cell

    return {heading: column(key, digits) for key, (heading, digits) in COST_HEADS.items()}


def _cost_lines(bundle: Bundle, runs: Runs, costs: Costs | None) -> list[str]:
    """Return how the costs in the table were measured."""
    if not costs or not _cost_columns(runs, costs):
        return []
    shape, threads = " x ".join(str(n) for n in costs["shape"]), costs["threads"]
    untrained = [
        f"`{variant}` {own['step_seconds']:.3f} s and {own['step_peak_mib']:.0f} MiB"
        for variant, own in costs["variants"].items()
        if variant not in (*bundle.removal_profiles, *bundle.single_seed_profiles)
    ]
    return [
        f"Step: forward, cross-entropy, backward and AdamW on {shape}, {costs['dtype']}, {threads} "
        f"thread{'s' if threads > 1 else ''} of {costs['machine']['processor']}; medians of {costs['repeats']} "
        "processes per variant, which took turns; peak: resident memory over that before the first forward pass."
        + (f" The same without a training: {'; '.join(untrained)}." if untrained else ""),
        "",
        "```bash",
        f"python -m tools ablate cost {bundle.name} --variants {','.join(costs['variants'])}",
        "```",
        "",
    ]


def _seed(record: Record) -> int:
    return int(record["overrides"]["seed"])


def differences(first: Sequence[Record], second: Sequence[Record], score: Score) -> list[float]:
    """Return the differences of the score for the seeds that both variants were run with.

    Args:
        first: runs of one variant.
        second: runs of another.
        score: what is compared.
    """
    base = {_seed(record): score.of(record) for record in first}
    return [score.of(record) - base[_seed(record)] for record in second if _seed(record) in base]


def verdict(runs: Runs, score: Score) -> str:
    """Say what the attention of the shipped network changes, as a whole and each part of it alone.

    Args:
        runs: records by variant, the one without attention first, those with a part of it, the shipped one last.
        score: what is compared.
    """
    plain, *_, shipped = runs.values()
    changes = differences(plain, shipped, score)
    if not changes or not len(plain) == len(shipped) == len(changes):
        return "The removal test has not been run for this version."
    if all(d > 0 for d in changes):
        word = "The attention helps here"
    elif all(d < 0 for d in changes):
        word = "The attention does harm here"
    else:
        word = "The attention does not help here"
    alone = {variant: differences(plain, group, score) for variant, group in list(runs.items())[1:-1]}
    parts = [f"`{variant}` {_change(values)}" for variant, values in alone.items() if values]
    return (
        f"**{word}:** with it the {score.name} changes by {_change(changes)} against the "
        "same network without it, at the same budget ([removal test](#does-the-attention-matter))."
        + (f" Each part alone: {', '.join(parts)}." if parts else "")
    )


def _change(changes: Sequence[float]) -> str:
    """Return the mean of the differences, with their spread and each of them."""
    by_seed = ", ".join(f"{d:+.4f}" for d in changes)
    deviation = f"± {stdev(changes):.4f} over {len(changes)} seeds" if len(changes) > 1 else "one seed"
    return f"{fmean(changes):+.4f} ({deviation}; by seed {by_seed})"


def _scores(bundle: Bundle, score: Score) -> Columns:
    def cell(value: Callable[[Record], float]) -> Cell:
        return lambda group: spread([value(record) for record in group])

    return {heading: cell(value) for heading, value in {**score.columns(bundle), score.name: score.of}.items()}


def _difference(base: Sequence[Record], row: Sequence[Record], score: Score) -> Cell:
    """Return the cell of the differences to ``base``, empty in the row of ``base`` itself."""
    return lambda group: "" if group is row else ", ".join(f"{d:+.4f}" for d in differences(base, group, score))


def _size(key: str, base: Record | None = None) -> Cell:
    """Return the cell of the parameters or MACs, with the share that ``base`` lacks if there is a ``base``."""
    unit, digits = {"parameters": (1, 0), "macs": (1e9, 3)}[key]

    def cell(group: Sequence[Record]) -> str:
        value = group[0][key]
        share = f" ({(value - base[key]) / value:.1%})" if base else ""
        return f"{value / unit:,.{digits}f}{share}"

    return cell


def _rows(runs: Runs, columns: Columns) -> list[str]:
    lines = [f"| variant | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    for variant, group in runs.items():
        lines.append(f"| `{variant}` | {' | '.join(cell(group) for cell in columns.values())} |")
    return lines


def _conditions(bundle: Bundle, runs: Runs, score: Score, seeds: str) -> str:
    records = [record for group in runs.values() for record in group]
    machine = records[0]["machine"]
    seconds = max(r["train_seconds"] for r in records)
    return (
        f"{score.cases(bundle, records[0])}, last epoch (no selection), {seeds}. Budget: profile `removal` "
        f"(`{json.dumps(bundle.profiles['removal'])}`), {machine['threads']} thread of {machine['device']} per run, "
        f"two runs side by side, at most {seconds:.0f} s of training per run."
    )


def _commands(bundle: Bundle, seeds: Mapping[str, int]) -> list[str]:
    """Return how to repeat the runs, one command for all variants with the same number of seeds."""
    variants = {n: ",".join(name for name in seeds if seeds[name] == n) for n in sorted(set(seeds.values()))}
    return [
        "Regenerate (the kept runs under `docs/runs/removal` are not repeated; delete them first):",
        "",
        "```bash",
        *(f"python -m tools ablate {bundle.name} --variants {names} --seeds {n}" for n, names in variants.items()),
        "```",
    ]


def removal_table(bundle: Bundle, runs: Runs, score: Score, costs: Costs | None = None) -> str:
    """Return the removal test as Markdown.

    Args:
        bundle: the specification.
        runs: records by variant, the one without attention first.
        score: what is compared.
        costs: time and memory by variant, see :func:`read_costs`.
    """
    first = next(iter(runs.values()))
    if not first:
        return "Not measured yet."
    runs = {variant: group for variant, group in runs.items() if group}
    columns = {
        **_scores(bundle, score),
        "difference to the first row, by seed": _difference(first, first, score),
        "parameters (share of attention)": _size("parameters", first[0]),
        "GMACs (share of attention)": _size("macs", first[0]),
        **_cost_columns(runs, costs),
    }
    return "\n".join(
        [
            _conditions(bundle, runs, score, f"mean ± standard deviation over {len(first)} seeds"),
            "",
            *_rows(runs, columns),
            "",
            *_cost_lines(bundle, runs, costs),
            *_commands(bundle, dict.fromkeys(runs, len(first))),
        ]
    )


def single_seed_table(bundle: Bundle, runs: Runs, single: Runs, score: Score, costs: Costs | None = None) -> str:
    """Return the variants that are run with one seed only as Markdown, or nothing if none was run.

    Args:
        bundle: the specification.
        runs: records of the removal test by variant, the one without attention first, the shipped one last.
        single: records of the other variants.
        score: what is compared.
        costs: time and memory by variant, see :func:`read_costs`.
    """
    single = {variant: group for variant, group in single.items() if group}
    if not single:
        return ""
    plain, *_, shipped = runs
    seed_0 = {name: [record for record in runs[name] if _seed(record) == 0] for name in (plain, shipped)}
    rows = {**{variant: group for variant, group in seed_0.items() if group}, **single}
    columns = {
        **_scores(bundle, score),
        f"difference to `{shipped}`": _difference(runs[shipped], seed_0[shipped], score),
        "parameters": _size("parameters"),
        "GMACs": _size("macs"),
        **_cost_columns(rows, costs),
    }
    seeds = {variant: len(group) for variant, group in single.items()}
    more = "; mean ± standard deviation where a variant has more seeds" if max(seeds.values()) > 1 else ""
    return "\n".join(
        [
            "**One seed: no ranking.**",
            "",
            _conditions(bundle, rows, score, f"seed 0, also in the rows repeated from the table above{more}"),
            "",
            *_rows(rows, columns),
            "",
            *_commands(bundle, seeds),
        ]
    )


def paragraphs(*texts: str) -> str:
    """Join the texts that are not empty by blank lines.

    Args:
        texts: Markdown.
    """
    return "\n\n".join(text for text in texts if text)


def fill(template: Path, fields: Mapping[str, object]) -> str:
    """Return a template with its ``{{ name }}`` replaced.

    Args:
        template: the Markdown file.
        fields: text by name.
    """
    text = template.read_text()
    for key, value in fields.items():
        text = text.replace("{{ " + key + " }}", str(value))
    return text


def common_fields(bundle: Bundle, record: Record | None) -> dict[str, object]:
    """Return the fields of a README that every recipe fills in the same way.

    Args:
        bundle: the specification.
        record: the run file of the shipped weights, or ``None``.
    """
    named = ("task", "intended_use", "data_source", "image_classes", "label_classes")
    return {
        **{name: bundle.metadata[name] for name in named},
        **{name: bundle.knobs[name] for name in ("batch_size", "epochs", "val_interval", "learning_rate")},
        "title": bundle.title,
        "summary": bundle.summary,
        "name": bundle.name,
        "network": bundle.network["_target_"],
        "expected": bundle.expected,
        "patch": " x ".join(str(n) for n in bundle.knobs["patch_size"]),
        "spacing": " x ".join(f"{n:g}" for n in bundle.knobs["spacing"]),
        "parameters": f"{record['parameters']:,}" if record else "not counted yet",
        "macs": f"{record['macs'] / 1e9:.2f}" if record else "not counted yet",
        "profiles": "\n".join(f"- `{name}.json`: `{json.dumps(values)}`" for name, values in bundle.profiles.items()),
        "references": "\n".join(f"- {reference}" for reference in bundle.metadata["references"]),
    }


def training_time(record: Record) -> str:
    """Return how long a training took, and on what.

    Args:
        record: its run file.
    """
    machine = record["machine"]
    where = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''} of {machine['device']}"
    on_gpu = "" if "NVIDIA" in machine["device"] else " Not measured on a GPU."
    return f"{record['epochs']} epochs took {record['train_seconds'] / 60:.1f} minutes on {where}.{on_gpu}"
