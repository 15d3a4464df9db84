"""The search for a learning rate: what it holds back, which trial was best, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.files import read_json
from custom_networks.workflow.train.log.curve import read_curve

INNER_FOLDS = 5
"""Of so many parts of the training cases, the first is what a search scores on, or fewer cases."""
FOUND = 0.1
"""Mean Dice from which a trial has begun to find a class."""
BY_LOSS = "loss"


def inner_split(cases: Sequence[str], patient_of: Mapping[str, str], most: float = math.inf) -> dict[str, list[str]]:
    """Return a split of training cases for the search, as nnU-Net's ``splits_final.json`` has one.

    Every fifth patient is what the search scores on, or every sixth, or ..., so that there are no more cases than
    there is time for; one patient at least.

    Args:
        cases: their names.
        patient_of: the patient of each.
        most: cases that there is time for.

    Example:
        >>> inner_split(["a1", "a2", "b", "c"], {"a1": "a", "a2": "a", "b": "b", "c": "c"})
        {'train': ['b', 'c'], 'val': ['a1', 'a2']}
    """
    patients = sorted({patient_of[name] for name in cases})
    number = min(math.ceil(len(patients) / INNER_FOLDS), most * len(patients) / len(cases))
    held = set(patients[:: math.ceil(len(patients) / max(1, int(number)))])
    parts: dict[str, list[str]] = {"train": [], "val": []}
    for name in sorted(cases):
        parts["val" if patient_of[name] in held else "train"].append(name)
    return parts


def read_trial(folder: Path, report: str) -> dict[str, Any]:
    """Return what counts of a trial: mean Dice, that of its worst class, and its last training loss.

    Args:
        folder: of the trial.
        report: name of its file of averages.
    """
    averages = read_json(folder / report)
    classes = [own["dice"]["mean"] for own in averages["classes"].values()]
    worst = min((score for score in classes if score is not None), default=None)
    return {
        "dice": averages["mean"]["dice"],
        "worst_class": worst,
        BY_LOSS: float(read_curve(folder / "training_curve.csv")[-1]["loss"]),
    }


def choose_rate(trials: Mapping[float, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the best learning rate of a search and why it is.

    The mean Dice decides where some trial finds every class. Where none does, which class it finds first is chance,
    and the training loss decides, which falls before any voxel changes its class. Of equal ones the smallest is taken.

    Args:
        trials: as :func:`read_trial` returns them, by learning rate.

    Example:
        >>> early = {"dice": 0.09, "worst_class": 0.0, "loss": 1.8}
        >>> choose_rate({0.001: early, 0.003: {"dice": 0.08, "worst_class": 0.0, "loss": 1.2}})["learning_rate"]
        0.003
        >>> choose_rate({0.001: {"dice": 0.8, "worst_class": 0.7, "loss": 0.7}, 0.003: early})["learning_rate"]
        0.001
    """
    learnt = any((own["worst_class"] or 0.0) >= FOUND for own in trials.values())
    criterion = "dice" if learnt else BY_LOSS

    def badness(rate: float) -> float:
        own = trials[rate][criterion]
        return float(own) if criterion == BY_LOSS else -float(own or 0.0)

    return {
        "learning_rate": min(sorted(trials), key=badness),
        "by": criterion,
        "trials": {f"{rate:g}": dict(own) for rate, own in sorted(trials.items())},
    }


def notes_of_search(name: str, tried: Sequence[float], chosen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return in words what a search leaves open: a rate at the edge of those tried, or one that the loss has chosen.

    Args:
        name: of the network.
        tried: the rates; a single one was no search.
        chosen: what :func:`choose_rate` returns, by fold.

    Example:
        >>> notes_of_search("a", [0.001, 0.003], {"0": {"learning_rate": 0.003, "by": "dice"}})
        ['a: its learning rate 0.003 is the greatest that was tried, one beyond it may do better']
    """
    if len(tried) < 2:
        return []
    edges = {min(tried): "smallest", max(tried): "greatest"}
    rates = {own["learning_rate"] for own in chosen.values()}
    notes = [
        f"{name}: its learning rate {rate:g} is the {edges[rate]} that was tried, one beyond it may do better"
        for rate in sorted(rates & set(edges))
    ]
    if any(own["by"] == BY_LOSS for own in chosen.values()):
        notes.append(f"{name}: no trial of its search found every class, so the training loss chose its learning rate")
    return notes
