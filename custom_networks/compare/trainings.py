"""The trainings of a comparison: the pace of each network, the search for its learning rate, every fold and seed."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from custom_networks.adapt.pace import Pace
from custom_networks.compare.fits import Fit
from custom_networks.compare.pacing import pace_of
from custom_networks.compare.plan import (
    SEARCH_SHARE,
    SEARCH_VALIDATION,
    Budget,
    as_profile,
    cases_of,
    schedule,
)
from custom_networks.compare.search import choose_rate, inner_split, read_trial
from custom_networks.files import parse_json, read_json, write_text
from custom_networks.studies.run import train_and_evaluate
from custom_networks.studies.side_by_side import Seat, run_all
from custom_networks.workflow.train.handlers import DIVERGED
from custom_networks.workflow.train.log.curve import read_curve

PACE, PROFILE, RATES, SEARCH_FOLDS = "pace.json", "profile.json", "learning_rates.json", "search_folds.json"
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
    splits = _inner_splits(study, fits)
    trials = {
        f"{fit.entry.name}, fold {fold}, learning rate {rate:g}": _trial(
            study, fit, number, len(splits[number]["val"]), rate, say
        )
        for number, fold in enumerate(study.folds)
        for fit in fits
        for rate in study.rates
        if len(study.rates) > 1
    }
    failed |= run_all(trials, study.places)
    lost = {name.partition(", fold")[0] for name in failed}
    fits = [fit for fit in fits if fit.entry.name not in lost]
    for fit in fits:
        try:
            _choose_rates(study, fit, say)
        except ValueError as error:
            failed[fit.entry.name] = error
    fits = [fit for fit in fits if fit.entry.name not in failed]
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


def _validation_of(study: Study, pace: Pace, number: int) -> float:
    """Return the seconds of a validation of some cases; the pace has those of the first fold."""
    host, fold = study.fits[0].entry.bundle, study.folds[0]
    return pace.validation * number / len(cases_of(study.knobs, host, fold, "validation"))


def _inner_splits(study: Study, fits: Sequence[Fit]) -> list[dict[str, list[str]]]:
    """Return the split of each fold's training cases, the same for all networks, the slowest of which has the time.

    What the folder holds stays, so that networks that come later are tried on the same cases.
    """
    file, most = study.folder / SEARCH_FOLDS, math.inf
    if file.is_file():
        kept: list[dict[str, list[str]]] = parse_json(file.read_text(encoding="utf-8"), str(file))
        return kept
    if study.budget.minutes is not None and fits:
        seconds = SEARCH_VALIDATION * 60 * study.budget.minutes * SEARCH_SHARE
        paces = [_pace_of(study, fit, study.places[0]) for fit in fits]
        most = seconds / max(_validation_of(study, pace, 1) for pace in paces)
    host = study.fits[0].entry.bundle
    training = [cases_of(study.knobs, host, fold, "training") for fold in study.folds]
    splits = [inner_split(cases, study.patient_of, most) for cases in training]
    write_text(file, json.dumps(splits, indent=1) + "\n")
    return splits


def _pace_of(study: Study, fit: Fit, seat: Seat) -> Pace:
    home = study.folder_of(fit)
    return pace_of(fit.entry.bundle, home / PROFILE, home / PACE, seat)


def _trial_folder(study: Study, fit: Fit, fold: int, rate: float) -> Path:
    return study.folder_of(fit) / "search" / f"fold{fold}_{rate:g}"


def _trial(
    study: Study, fit: Fit, number: int, held_back: int, rate: float, say: Callable[[str], None]
) -> Callable[[Seat], None]:
    """Return the task that tries a learning rate on the training cases of one of the folds."""

    def task(seat: Seat) -> None:
        bundle, budget, pace = fit.entry.bundle, study.budget.share(SEARCH_SHARE), _pace_of(study, fit, seat)
        pace = replace(pace, validation=_validation_of(study, pace, held_back))
        own = {**schedule(budget, pace, bundle, study.knobs["batch_size"]), "learning_rate": rate}
        inner = {"folds_file": str(study.folder / SEARCH_FOLDS), "fold": number}
        folder = _trial_folder(study, fit, study.folds[number], rate)
        folder.mkdir(parents=True, exist_ok=True)
        profile = folder / PROFILE
        write_text(profile, json.dumps(as_profile(study.knobs, fit.knobs, own, inner), indent=1) + "\n")
        what = f"{fit.entry.name}, fold {study.folds[number]}, learning rate {rate:g}"
        try:
            train_and_evaluate(bundle, [profile], folder, {"seed": 0}, seat)
        except RuntimeError as error:
            if DIVERGED not in str(error):
                raise
            # an answer of the search, and no failure of the comparison
            say(f"{what}: {DIVERGED} infinite or no number, so it is left out")
            return
        say(f"{what}: {_dice_in(folder)} on a part of the training cases")

    return task


def _choose_rates(study: Study, fit: Fit, say: Callable[[str], None]) -> None:
    """Write the learning rate of each fold."""
    chosen: dict[str, dict[str, Any]] = {}
    for fold in study.folds:
        chosen[str(fold)] = {"learning_rate": study.rates[0]}
        if len(study.rates) > 1:
            folders = {rate: _trial_folder(study, fit, fold, rate) for rate in study.rates}
            trials = {rate: read_trial(own, REPORT) for rate, own in folders.items() if (own / REPORT).is_file()}
            if not trials:
                raise ValueError(
                    f"with every one of --learning_rates {DIVERGED} infinite or no number; give smaller ones"
                )
            chosen[str(fold)] = choose_rate(trials)
            say(f"{fit.entry.name}, fold {fold}: learning rate {chosen[str(fold)]['learning_rate']:g}")
    write_text(study.folder_of(fit) / RATES, json.dumps(chosen, indent=1) + "\n")


def search_of(study: Study, fit: Fit) -> dict[str, dict[str, Any]]:
    """Return what the search found, by fold, see :func:`custom_networks.compare.search.choose_rate`.

    Args:
        study: the comparison.
        fit: the network.
    """
    found: dict[str, dict[str, Any]] = read_json(study.folder_of(fit) / RATES)
    return found


def learning_rates(study: Study, fit: Fit) -> dict[int, float]:
    """Return the learning rate of each fold.

    Args:
        study: the comparison.
        fit: the network.
    """
    return {int(fold): own["learning_rate"] for fold, own in search_of(study, fit).items()}


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
