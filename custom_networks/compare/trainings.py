"""The trainings of a comparison: the pace of each network, the search for its learning rate, every fold and seed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks.compare.fits import Fit
from custom_networks.compare.pacing import pace_of
from custom_networks.compare.plan import (
    SEARCH_SHARE,
    Budget,
    as_profile,
    cases_of,
    inner_split,
    schedule,
)
from custom_networks.files import read_json, write_text
from custom_networks.studies.run import train_and_evaluate
from custom_networks.studies.side_by_side import Seat, run_all
from custom_networks.workflow.train.log.curve import read_curve

PACE, PROFILE, RATES = "pace.json", "profile.json", "learning_rates.json"
METRICS, REPORT = "metrics.csv", "metrics.json"


@dataclass(frozen=True)
class Study:
    """What is compared, and where.

    Args:
        folder: where everything goes.
        fits: the networks.
        knobs: what they share.
        budget: of every training.
        rates: the learning rates that are tried.
        folds: numbers of the folds.
        seeds: of the trainings.
        patient_of: the patient of each case.
        places: where trainings run side by side.
    """

    folder: Path
    fits: Sequence[Fit]
    knobs: Mapping[str, Any]
    budget: Budget
    rates: Sequence[float]
    folds: Sequence[int]
    seeds: Sequence[int]
    patient_of: Mapping[str, str]
    places: Sequence[Seat]

    def folder_of(self, fit: Fit) -> Path:
        """Return the folder of a network.

        Args:
            fit: the network.
        """
        return self.folder / re.sub(r"[^\w.-]+", "_", fit.entry.name)

    def run_folder(self, fit: Fit, fold: int, seed: int) -> Path:
        """Return the folder of one training.

        Args:
            fit: the network.
            fold: number of the fold.
            seed: of the training.
        """
        return self.folder_of(fit) / f"fold{fold}_seed{seed}"


def run_trainings(study: Study, say: Callable[[str], None]) -> dict[str, Exception]:
    """Run what is not done of a comparison, side by side.

    Args:
        study: the comparison.
        say: takes a line of progress.

    Returns:
        The errors of what failed, by its name; what stands on it was not begun.
    """
    failed = run_all({fit.entry.name: _pace(study, fit, say) for fit in study.fits}, study.places)
    fits = [fit for fit in study.fits if fit.entry.name not in failed]
    write_text(study.folder / "search_folds.json", json.dumps(_inner_splits(study), indent=1) + "\n")
    trials = {
        f"{fit.entry.name}, fold {fold}, learning rate {rate:g}": _trial(study, fit, number, rate, say)
        for number, fold in enumerate(study.folds)
        for fit in fits
        for rate in study.rates
        if len(study.rates) > 1
    }
    failed |= run_all(trials, study.places)
    lost = {name.partition(", fold")[0] for name in failed}
    fits = [fit for fit in fits if fit.entry.name not in lost]
    for fit in fits:
        _choose_rates(study, fit, say)
    runs = {
        f"{fit.entry.name}, fold {fold}, seed {seed}": _run(study, fit, fold, seed, say)
        for seed in study.seeds
        for fold in study.folds
        for fit in fits
    }
    return failed | run_all(runs, study.places)


def _pace(study: Study, fit: Fit, say: Callable[[str], None]) -> Callable[[Seat], None]:
    def task(seat: Seat) -> None:
        folder, bundle = study.folder_of(fit), fit.entry.bundle
        folder.mkdir(parents=True, exist_ok=True)
        fold = {"fold": study.folds[0]}
        own = as_profile(study.knobs, fit.knobs, fold, seat.knobs())
        write_text(folder / "pace_profile.json", json.dumps(own, indent=1) + "\n")
        pace = pace_of(bundle, folder / "pace_profile.json", folder / PACE, seat)
        own = schedule(study.budget, pace, bundle, study.knobs["batch_size"])
        write_text(folder / PROFILE, json.dumps(as_profile(study.knobs, fit.knobs, own), indent=1) + "\n")
        say(f"{fit.entry.name}: a step takes {pace.step:.2f} s, {own['epochs'] * own['steps_per_epoch']} steps")

    return task


def _inner_splits(study: Study) -> list[dict[str, list[str]]]:
    host = study.fits[0].entry.bundle
    training = [cases_of(study.knobs, host, fold, "training") for fold in study.folds]
    return [inner_split(cases, study.patient_of) for cases in training]


def _trial_folder(study: Study, fit: Fit, fold: int, rate: float) -> Path:
    return study.folder_of(fit) / "search" / f"fold{fold}_{rate:g}"


def _trial(study: Study, fit: Fit, number: int, rate: float, say: Callable[[str], None]) -> Callable[[Seat], None]:
    """Return the task that tries a learning rate on the training cases of one of the folds."""

    def task(seat: Seat) -> None:
        home, bundle = study.folder_of(fit), fit.entry.bundle
        budget, pace = study.budget.share(SEARCH_SHARE), pace_of(bundle, home / PROFILE, home / PACE, seat)
        own = {**schedule(budget, pace, bundle, study.knobs["batch_size"]), "learning_rate": rate}
        inner = {"folds_file": str(study.folder / "search_folds.json"), "fold": number}
        folder = _trial_folder(study, fit, study.folds[number], rate)
        folder.mkdir(parents=True, exist_ok=True)
        profile = folder / PROFILE
        write_text(profile, json.dumps(as_profile(study.knobs, fit.knobs, own, inner), indent=1) + "\n")
        train_and_evaluate(bundle, [profile], folder, {"seed": 0}, seat)
        what = f"{fit.entry.name}, fold {study.folds[number]}, learning rate {rate:g}"
        say(f"{what}: {_dice_in(folder)} on a part of the training cases")

    return task


def _choose_rates(study: Study, fit: Fit, say: Callable[[str], None]) -> None:
    """Write the learning rate of each fold: the one with the best mean Dice, the smaller of two that are equal."""
    chosen: dict[str, dict[str, Any]] = {}
    for fold in study.folds:
        scores = {study.rates[0]: None}
        if len(study.rates) > 1:
            files = {rate: _trial_folder(study, fit, fold, rate) / REPORT for rate in sorted(study.rates)}
            scores = {rate: read_json(file)["mean"]["dice"] for rate, file in files.items()}
        best = max(scores, key=lambda rate: scores[rate] or 0.0)
        chosen[str(fold)] = {"learning_rate": best, "dice": {f"{rate:g}": score for rate, score in scores.items()}}
        if len(study.rates) > 1:
            say(f"{fit.entry.name}, fold {fold}: learning rate {best:g}")
    write_text(study.folder_of(fit) / RATES, json.dumps(chosen, indent=1) + "\n")


def learning_rates(study: Study, fit: Fit) -> dict[int, float]:
    """Return the learning rate of each fold.

    Args:
        study: the comparison.
        fit: the network.
    """
    return {int(fold): own["learning_rate"] for fold, own in read_json(study.folder_of(fit) / RATES).items()}


def at_the_edge(name: str, tried: Sequence[float], taken: Mapping[int, float]) -> list[str]:
    """Return in words which learning rates were the smallest or the greatest that the search has tried.

    Args:
        name: of the network.
        tried: the rates; a single one was no search.
        taken: the rate of each fold.

    Example:
        >>> at_the_edge("a", [0.001, 0.003, 0.01], {0: 0.003, 1: 0.01})
        ['a: its learning rate 0.01 is the greatest that was tried, one beyond it may do better']
    """
    if len(tried) < 2:
        return []
    edges = {min(tried): "smallest", max(tried): "greatest"}
    return [
        f"{name}: its learning rate {rate:g} is the {edges[rate]} that was tried, one beyond it may do better"
        for rate in sorted(set(taken.values()) & set(edges))
    ]


def _run(study: Study, fit: Fit, fold: int, seed: int, say: Callable[[str], None]) -> Callable[[Seat], None]:
    def task(seat: Seat) -> None:
        home, folder = study.folder_of(fit), study.run_folder(fit, fold, seed)
        overrides = {"fold": fold, "seed": seed, "learning_rate": learning_rates(study, fit)[fold]}
        train_and_evaluate(fit.entry.bundle, [home / PROFILE], folder, overrides, seat)
        say(f"{fit.entry.name}, fold {fold}, seed {seed}: {_dice_in(folder)}")

    return task


def _dice_in(folder: Path) -> str:
    """Return the mean Dice of a run in words; there is none where no case has a structure, found or not."""
    score = read_json(folder / REPORT)["mean"]["dice"]
    return "no Dice" if score is None else f"Dice {score:.4f}"


def rows_of(study: Study, fit: Fit) -> list[dict[str, Any]]:
    """Return the rows of the metrics of all trainings of a network.

    Args:
        study: the comparison.
        fit: the network.
    """
    rows: list[dict[str, Any]] = []
    for fold in study.folds:
        for seed in study.seeds:
            with (study.run_folder(fit, fold, seed) / METRICS).open(newline="", encoding="utf-8") as file:
                own = {"network": fit.entry.name, "fold": fold, "seed": seed}
                rows += [{**own, **row} for row in csv.DictReader(file)]
    return rows


def train_seconds(study: Study, fit: Fit) -> float:
    """Return the mean seconds of a training, by its epochs.

    Args:
        study: the comparison.
        fit: the network.
    """
    folders = [study.run_folder(fit, fold, seed) for fold in study.folds for seed in study.seeds]
    curves = [read_curve(folder / "training_curve.csv") for folder in folders]
    return sum(float(row["seconds"]) for curve in curves for row in curve) / len(folders)
