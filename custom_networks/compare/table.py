"""What a comparison says: a row per network, and a sentence on each difference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from custom_networks.compare.differences import Difference, Scores, difference
from custom_networks.workflow.report.statistics import bootstrap_interval

METRIC = "dice"


@dataclass(frozen=True)
class Line:
    """What the table says of a network.

    Args:
        name: of the network.
        classes: mean Dice per class, over cases, seeds and folds; ``None`` where no case has it.
        dice: mean over patients of the mean over the classes.
        interval: 95 % bootstrap interval of it over patients; ``None`` for one patient.
        nsd: mean normalised surface Dice over classes and cases.
        hd95: mean over classes and cases in mm, see the policy of missing ones.
        difference: to the first network; ``None`` for that itself.
        facts: parameters, multiply-adds, seconds and the like, by name.
    """

    name: str
    classes: Mapping[str, float | None]
    dice: float
    interval: tuple[float, float] | None
    nsd: float | None
    hd95: float | None
    difference: Difference | None
    facts: Mapping[str, Any]


def scores_of(rows: Sequence[Mapping[str, Any]], patient_of: Mapping[str, str]) -> Scores:
    """Return the score of every patient in every training: the mean Dice of the classes, over the patient's cases.

    It is nan where no class of any of them has one, as a case without structures that was segmented as such.

    Args:
        rows: metrics by case and class, with fold and seed, of one network.
        patient_of: the patient of each case.
    """
    values: dict[tuple[int, int], dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        training = values.setdefault((int(row["fold"]), int(row["seed"])), {})
        of_case = training.setdefault(patient_of[str(row["case"])], {}).setdefault(str(row["case"]), [])
        of_case.append(float(row[METRIC]))
    return {
        training: {patient: _score(of_cases.values()) for patient, of_cases in found.items()}
        for training, found in values.items()
    }


def _score(of_cases: Iterable[Sequence[float]]) -> float:
    """Return the mean over the cases that have a value of the mean over the classes that have one, else nan."""
    means = [mean for case in of_cases if (mean := _mean(case)) is not None]
    return fmean(means) if means else math.nan


def lines_of(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    facts: Mapping[str, Mapping[str, Any]],
    patient_of: Mapping[str, str],
) -> list[Line]:
    """Return the lines of the table; the first network is what the others are compared to.

    Args:
        rows: the metrics of each network.
        facts: what else is known of it.
        patient_of: the patient of each case.

    Raises:
        ValueError: if the networks have no trainings or patients in common.
    """
    scores = {name: scores_of(own, patient_of) for name, own in rows.items()}
    first = next(iter(scores))
    lines = []
    for name, own in scores.items():
        by_patient: dict[str, list[float]] = {}
        for training in own.values():
            for patient, value in training.items():
                by_patient.setdefault(patient, []).append(value)
        means = [mean for values in by_patient.values() if (mean := _mean(values)) is not None]
        names = dict.fromkeys(str(row["class"]) for row in rows[name])
        classes = {one: _mean(row[METRIC] for row in rows[name] if row["class"] == one) for one in names}
        lines.append(
            Line(
                name=name,
                classes=classes,
                dice=fmean(means) if means else math.nan,
                interval=bootstrap_interval(means),
                nsd=_mean(row["nsd"] for row in rows[name]),
                hd95=_mean(row["hd95"] for row in rows[name]),
                difference=None if name == first else difference(_beside(scores[first], own), own),
                facts=facts.get(name, {}),
            )
        )
    return lines


def _beside(first: Scores, other: Scores) -> Scores:
    """Return the scores that another network is compared to: the mean over the seeds where that has one training."""
    if {seed for _, seed in other} != {0} or {seed for _, seed in first} == {0}:
        return first
    folds = {fold for fold, _ in first}
    trainings = {fold: [own for (number, _), own in first.items() if number == fold] for fold in folds}
    return {
        (fold, 0): {patient: fmean(one[patient] for one in own) for patient in own[0]}
        for fold, own in trainings.items()
    }


def _mean(values: Any) -> float | None:
    numbers = [number for number in map(float, values) if not math.isnan(number)]
    return fmean(numbers) if numbers else None


def sentence(line: Line, first: str) -> str:
    """Return what may be said of a network beside the first.

    Args:
        line: of the network.
        first: the name of the first.

    Example:
        >>> found = Difference(0.004, (-0.002, 0.01), (0.001, 0.007), 12, 8, 20, 3)
        >>> sentence(Line("b", {}, 0.9, None, None, None, found, {}), "a")
        'b - a: +0.0040 (95 % -0.0020 to +0.0100): no difference is shown; one of up to 0.0100 cannot be excluded'
    """
    own = line.difference
    if own is None:
        return f"{line.name} is what the others are compared to"
    head = f"{line.name} - {first}: {own.mean:+.4f}"
    if own.interval is None:
        why = "one training of each" if own.seeds < 2 else "one patient"
        return f"{head}: {why}, so nothing follows for networks trained anew; give more --seeds"
    low, high = own.interval
    head += f" (95 % {low:+.4f} to {high:+.4f})"
    if own.shown:
        return f"{head}: {line.name} is {'better' if own.mean > 0 else 'worse'}"
    most = max(abs(low), abs(high))
    return f"{head}: no difference is shown; one of up to {most:.4f} cannot be excluded"


def as_markdown(lines: Sequence[Line]) -> str:
    """Return the table.

    Args:
        lines: one per network.
    """
    classes = list(lines[0].classes)
    head = ["network", *classes, "mean Dice (95 %)", "NSD", "HD95, mm", "difference (95 %)", "better / worse"]
    head += ["parameters", "GMAC", "training, s", "s per image", "memory of a step, MB", "learning rate"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for line in lines:
        own, facts = line.difference, line.facts
        rows.append(
            [
                line.name,
                *(_number(line.classes.get(name), 4) for name in classes),
                f"{line.dice:.4f}{_between(line.interval, '.4f')}",
                _number(line.nsd, 4),
                _number(line.hd95, 2),
                "" if own is None else f"{own.mean:+.4f}{_between(own.interval, '+.4f') or ' (one seed)'}",
                "" if own is None else f"{own.wins} / {own.losses}",
                f"{facts['parameters']:,}" if "parameters" in facts else "",
                _number(facts.get("macs") and facts["macs"] / 1e9, 2),
                _number(facts.get("train_seconds"), 0),
                _number(facts.get("seconds_per_image"), 2),
                _number(facts.get("step_bytes") and facts["step_bytes"] / 1e6, 0),
                ", ".join(f"{rate:g}" for rate in facts.get("learning_rates", ())),
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _between(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the lines as JSON has them.

    Args:
        lines: one per network.
    """
    return [{**asdict(line), "sentence": sentence(line, lines[0].name)} for line in lines]
