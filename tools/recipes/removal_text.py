"""The removal test in the README of a bundle: the verdict, the tables, and how to repeat them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev

from scipy.stats import t

from tools.recipes.bundle import Bundle
from tools.recipes.markdown import format_spread, format_table, keep_in_a_clone
from tools.recipes.removal import Costs, Row, Score, Variant, make_row, pair_differences


def state_verdict(variants: Sequence[Variant], score: Score) -> str:
    """Say what the attention of the shipped network changes, as a whole and each part of it alone.

    Args:
        variants: the one without attention first, those with a part of it, the shipped one last.
        score: what is compared.
    """
    plain, *parts, shipped = variants
    changes = pair_differences(plain, shipped, score)
    if not changes or not len(plain.runs) == len(shipped.runs) == len(changes):
        return "The removal test has not been run for this version."
    interval, tail = _interval(changes), ""
    if interval is None:
        effect = "One seed tells nothing of others"
    elif interval[0] > 0:
        effect = "The attention helps here"
    elif interval[1] < 0:
        effect = "The attention does harm here"
    else:
        effect = "No effect of the attention is shown here"
        tail = f" One of up to {max(map(abs, interval)):.4f} cannot be excluded."
    changes_alone = {part.profile: pair_differences(plain, part, score) for part in parts}
    alone = [f"`{profile}` {format_changes(values)}" for profile, values in changes_alone.items() if values]
    return (
        f"**{effect}:** with it the {score.name} changes by {format_changes(changes)} against the "
        f"same network without it, at the same budget ([removal test](#does-the-attention-matter)).{tail}"
        + (f" Each part alone: {', '.join(alone)}." if alone else "")
    )


def tabulate_removal(bundle: Bundle, variants: Sequence[Variant], score: Score, costs: Costs | None = None) -> str:
    """Return the removal test as Markdown.

    Args:
        bundle: the specification.
        variants: the one without attention first.
        score: what is compared.
        costs: time and memory by variant, see :func:`tools.recipes.removal.read_costs`.
    """
    plain = variants[0]
    if not plain.runs:
        return "Not measured yet."
    run = [variant for variant in variants if variant.runs]
    rows = [make_row(bundle, variant, plain, score, costs) for variant in run]
    seeds = len(plain.runs)
    return "\n".join(
        [
            _describe_conditions(bundle, run, score, f"mean ± standard deviation over {seeds} seeds"),
            "",
            *_format_rows(rows, "difference to the first row, by seed", plain=rows[0]),
            "",
            *(_describe_costs(bundle, costs) if costs and any(row.cost for row in rows) else []),
            *_describe_repetition(bundle, {variant.profile: seeds for variant in run}),
        ]
    )


def tabulate_single_seeds(
    bundle: Bundle,
    variants: Sequence[Variant],
    singles: Sequence[Variant],
    score: Score,
    costs: Costs | None = None,
) -> str:
    """Return the variants that are run with one seed only as Markdown, or nothing if none was run.

    Args:
        bundle: the specification.
        variants: those of the removal test, the one without attention first, the shipped one last.
        singles: the other variants.
        score: what is compared.
        costs: time and memory by variant, see :func:`tools.recipes.removal.read_costs`.
    """
    singles = [variant for variant in singles if variant.runs]
    if not singles:
        return ""
    plain, *_, shipped = variants
    with_seed_0 = [Variant(own.profile, {0: own.runs[0]}) for own in (plain, shipped) if 0 in own.runs]
    run = [*with_seed_0, *singles]
    rows = [make_row(bundle, variant, shipped, score, costs) for variant in run]
    seeds = {variant.profile: len(variant.runs) for variant in singles}
    more = "; mean ± standard deviation where a variant has more seeds" if max(seeds.values()) > 1 else ""
    return "\n".join(
        [
            "**One seed: no ranking.**",
            "",
            _describe_conditions(bundle, run, score, f"seed 0, also in the rows repeated from the table above{more}"),
            "",
            *_format_rows(rows, f"difference to `{shipped.profile}`"),
            "",
            *_describe_repetition(bundle, seeds),
        ]
    )


def _interval(changes: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of Student's t for the mean over other seeds, ``None`` for a single seed."""
    if len(changes) < 2:
        return None
    reach = float(t.ppf(0.975, len(changes) - 1)) * stdev(changes) / sqrt(len(changes))
    return fmean(changes) - reach, fmean(changes) + reach


def format_changes(changes: Sequence[float]) -> str:
    """Return the mean of the differences, with its interval over other seeds and each of them.

    Args:
        changes: the differences by seed.
    """
    interval = _interval(changes)
    words = "one seed"
    if interval is not None:
        words = f"95 % {_format_signed(interval).replace(', ', ' to ')} over {len(changes)} seeds"
    return f"{fmean(changes):+.4f} ({words}; by seed {_format_signed(changes)})"


def _format_signed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+.4f}" for value in values)


def _format_rows(rows: Sequence[Row], difference: str, plain: Row | None = None) -> list[str]:
    """Return scores, differences and sizes, with the share of them that ``plain`` lacks, and costs if any."""
    share = " (share of attention)" if plain else ""
    with_costs = any(row.cost for row in rows)
    heads = ["variant", *rows[0].scores, difference, f"parameters{share}", f"GMACs{share}"]
    heads += ["step, s", "step peak, MiB"] if with_costs else []
    table = []
    for row in rows:
        cells = [f"`{row.profile}`", *map(format_spread, row.scores.values()), _format_signed(row.differences)]
        parameters, gmacs = f"{row.parameters:,}", f"{row.macs / 1e9:,.3f}"
        if plain:
            parameters += f" ({(row.parameters - plain.parameters) / row.parameters:.1%})"
            gmacs += f" ({(row.macs - plain.macs) / row.macs:.1%})"
        cells += [parameters, gmacs]
        if with_costs:
            cells += [f"{row.cost['step_seconds']:.3f}", f"{row.cost['step_peak_mib']:.0f}"] if row.cost else ["", ""]
        table.append(cells)
    return format_table(heads, table)


def _describe_conditions(bundle: Bundle, variants: Sequence[Variant], score: Score, seeds: str) -> str:
    """Return cases, budget and machine of the runs."""
    records = [record for variant in variants for record in variant.runs.values()]
    machine = records[0]["machine"]
    seconds = max(record["train_seconds"] for record in records)
    return (
        f"{score.cases(bundle, records[0])}, last epoch (no selection), {seeds}. Budget: profile `removal` "
        f"(`{json.dumps(bundle.profiles['removal'])}`), {machine['threads']} thread of {machine['device']} per run, "
        f"two runs side by side, at most {seconds:.0f} s of training per run."
    )


def _describe_costs(bundle: Bundle, costs: Costs) -> list[str]:
    """Return how the costs in the table were measured, and those of variants that were not trained."""
    shape, threads = " x ".join(str(n) for n in costs["shape"]), costs["threads"]
    untrained = [
        f"`{profile}` {own['step_seconds']:.3f} s and {own['step_peak_mib']:.0f} MiB"
        for profile, own in costs["variants"].items()
        if profile not in (*bundle.removal_profiles, *bundle.single_seed_profiles)
    ]
    return [
        f"Step: forward, cross-entropy, backward and AdamW on {shape}, {costs['dtype']}, {threads} "
        f"thread{'s' if threads > 1 else ''} of {costs['machine']['processor']}; medians of {costs['repeats']} "
        "processes per variant, which took turns; peak: resident memory over that before the first forward pass."
        + (f" The same without a training: {'; '.join(untrained)}." if untrained else ""),
        "",
        *keep_in_a_clone(
            "```bash", f"python -m tools ablate cost {bundle.name} --variants {','.join(costs['variants'])}", "```"
        ),
        "",
    ]


def _describe_repetition(bundle: Bundle, seeds: Mapping[str, int]) -> list[str]:
    """Return how to repeat the runs, one command for all variants with the same number of seeds."""
    profiles = {n: ",".join(name for name in seeds if seeds[name] == n) for n in sorted(set(seeds.values()))}
    return keep_in_a_clone(
        "Regenerate (the kept runs under `docs/runs/removal` are not repeated; delete them first):",
        "",
        "```bash",
        *(f"python -m tools ablate {bundle.name} --variants {names} --seeds {n}" for n, names in profiles.items()),
        "```",
    )
