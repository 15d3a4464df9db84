"""The numbers of the removal test: the runs of the variants, how they differ, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.recipes.bundle import Bundle

Record = Mapping[str, Any]
Costs = Mapping[str, Any]

COST_FILE = Path("docs", "runs", "removal", "cost.json")


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


@dataclass(frozen=True)
class Variant:
    """A variant of a bundle's network with its runs.

    Args:
        profile: the profile that makes it.
        runs: the run files by seed, none where it has not been run.
    """

    profile: str
    runs: Mapping[int, Record]


@dataclass(frozen=True)
class Row:
    """The numbers of one variant in a table.

    Args:
        profile: the variant.
        scores: the scores of its runs by heading.
        differences: of its score from that of the variant it is compared with, by seed; none in that variant's row.
        parameters: number of parameters.
        macs: multiply-adds for one patch.
        cost: seconds and MiB of a training step, or ``None`` where they were not measured.
    """

    profile: str
    scores: Mapping[str, Sequence[float]]
    differences: Sequence[float]
    parameters: int
    macs: int
    cost: Mapping[str, float] | None


def read_variants(folder: Path, profiles: Sequence[str]) -> list[Variant]:
    """Read the kept runs of the removal test.

    Args:
        folder: the bundle's folder.
        profiles: those of the variants.
    """
    variants = []
    for profile in profiles:
        paths = (folder / "docs" / "runs" / "removal").glob(f"{profile}_seed*.json")
        runs = {record["overrides"]["seed"]: record for record in (json.loads(path.read_text()) for path in paths)}
        variants.append(Variant(profile, dict(sorted(runs.items()))))
    return variants


def read_costs(folder: Path) -> dict[str, Any] | None:
    """Return what ``python -m tools ablate cost`` measured, or ``None``.

    Args:
        folder: the bundle's folder.
    """
    path = folder / COST_FILE
    return json.loads(path.read_text()) if path.is_file() else None


def pair_differences(base: Variant, other: Variant, score: Score) -> list[float]:
    """Return the differences of the score for the seeds that both variants were run with.

    Args:
        base: what is subtracted.
        other: what it is subtracted from.
        score: what is compared.
    """
    return [score.of(run) - score.of(base.runs[seed]) for seed, run in other.runs.items() if seed in base.runs]


def make_row(bundle: Bundle, variant: Variant, base: Variant, score: Score, costs: Costs | None) -> Row:
    """Return the numbers of a variant that was run.

    Args:
        bundle: the specification.
        variant: the variant.
        base: the variant that it is compared with.
        score: what is compared.
        costs: time and memory by variant, see :func:`read_costs`.
    """
    runs = list(variant.runs.values())
    columns = {**score.columns(bundle), score.name: score.of}
    return Row(
        profile=variant.profile,
        scores={heading: [value(run) for run in runs] for heading, value in columns.items()},
        differences=[] if variant.profile == base.profile else pair_differences(base, variant, score),
        parameters=runs[0]["parameters"],
        macs=runs[0]["macs"],
        cost=costs["variants"].get(variant.profile) if costs else None,
    )
