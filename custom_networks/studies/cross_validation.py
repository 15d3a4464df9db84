"""A bundle trained on every fold of a data set, and measured on the cases that each fold has held back."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from custom_networks import __version__
from custom_networks.bundle_folder import TASKS, read_config, task_of, version_of
from custom_networks.command_line import sentence
from custom_networks.files import read_json, write_text
from custom_networks.studies.fold_plan import plan_folds
from custom_networks.studies.largest_component import Classes, decide
from custom_networks.studies.run import check_request, train_and_evaluate
from custom_networks.studies.side_by_side import Seat, run_all
from custom_networks.studies.table import DEFINITIONS, Row, as_csv, dice_by_class, read_fold, summarise
from custom_networks.workflow.data.training_cases import find_seen_cases, known_to
from custom_networks.workflow.guard.overrides import check_overrides
from custom_networks.workflow.report.statistics import TOLERANCE
from custom_networks.workflow.train.log.curve import read_curve

TABLE, SUMMARY, ENSEMBLE = "cross_validation.csv", "summary.json", "ensemble.json"
LARGEST = "largest_component"
PACKAGES = ("monai", "torch", "pytorch-ignite", "numpy", "scipy")
SHOWN = 5


class CrossValidation:
    """The folds of one call, with all that is the same for them.

    Args:
        bundle: the bundle's folder.
        profile: the profile that makes it fit the data set.
        out: where folds and results go.
        seed: of the trainings, ``None`` for that of the profile.

    Raises:
        FileNotFoundError: if the data set is absent.
        ValueError: if the bundle does not segment, the profile changes nothing that exists, or the data set has no
            folds.
    """

    def __init__(self, bundle: Path, profile: Path, out: Path, seed: int | None) -> None:
        if task_of(bundle) != TASKS[0]:
            raise ValueError(f"{bundle.name} does not segment, and no masks could be compared; give another --bundle")
        check_overrides(str(bundle), ["--args_file", str(profile)])
        self.bundle, self.profile, self.out = bundle, profile, out
        self.config = read_config(bundle, "train", [profile])
        self.plan = plan_folds(self.config, bundle / "configs" / "folds.json")
        # what is found without the postprocessing decides about it; the weights are those of the last epoch, so that
        # the cases held back choose none
        fixed = {LARGEST: False, "val_interval": self.config.get_parsed_content("epochs")}
        self.overrides: dict[str, Any] = {**fixed, **({} if seed is None else {"seed": seed})}

    def folder(self, fold: int) -> Path:
        """Return where a fold is trained.

        Args:
            fold: its number.
        """
        return self.out / f"fold{fold}"

    def run(self, folds: Sequence[int], places: Sequence[Seat]) -> None:
        """Train and measure folds, and write what they come to.

        Args:
            folds: their numbers.
            places: the seats.

        Raises:
            ValueError: if a fold failed, and the others are finished, or ``out`` holds other trainings.
        """
        self._say_cases()
        for fold in folds:
            check_request(self.bundle, [self.profile], self.folder(fold), self._overrides(fold), masks=True)
        (self.out / TABLE).unlink(missing_ok=True)  # of an earlier call, perhaps of other folds
        failed = run_all({str(fold): partial(self._run_fold, fold) for fold in folds}, places)
        if failed:
            done = [fold for fold in folds if str(fold) not in failed]
            reasons = {fold: sentence(error) for fold, error in failed.items()}
            self._write(SUMMARY, {**self._described(done), "failed": reasons})
            raise ValueError(
                f"{len(failed)} of {len(folds)} folds failed: {', '.join(failed)}; correct what is said of them above, "
                "and call again, which does only what is not done"
            )
        rows = [row for fold in folds for row in read_fold(fold, self.folder(fold))]
        decision = decide(self._pairs(rows), self._classes())
        summary = {**self._described(folds), **summarise(rows, self.plan.patient_of), LARGEST: decision}
        self._write(ENSEMBLE, {**read_json(self.profile), LARGEST: decision["chosen"]})
        self._write(SUMMARY, summary)
        write_text(self.out / TABLE, as_csv(rows))
        self._say_end(folds, rows, decision)

    def _run_fold(self, fold: int, seat: Seat) -> None:
        held_back, trained_on = len(self.plan.held_back[fold]), self.plan.trained_on[fold]
        folder = self.folder(fold)
        say(f"fold {fold}: {trained_on} cases to train on, {held_back} held back; {folder / 'train.log'}")
        try:
            train_and_evaluate(self.bundle, [self.profile], folder, self._overrides(fold), seat, masks=True)
        except Exception as error:
            say(f"fold {fold} failed: {sentence(error)}")
            raise
        say(f"fold {fold}: Dice {dice_by_class(read_fold(fold, folder))}")

    def _overrides(self, fold: int) -> dict[str, Any]:
        return {**self.overrides, "fold": fold}

    def _classes(self) -> Classes:
        return Classes(*(self.config.get_parsed_content(knob) for knob in ("label_names", "label_values", "regions")))

    def _pairs(self, rows: Sequence[Row]) -> list[tuple[Path, Path]]:
        """Return mask and label of every case."""
        cases = dict.fromkeys((int(row["fold"]), row["case"]) for row in rows)
        return [(self.folder(fold) / f"{case}_seg.nii.gz", self.plan.labels[case]) for fold, case in cases]

    def _described(self, folds: Sequence[int]) -> dict[str, Any]:
        """Return what a summary says beside its figures."""
        measured = read_json(self.folder(folds[0]) / "metrics.json") if folds else {}
        return {
            "bundle": self.bundle.name,
            "bundle_version": version_of(self.bundle),
            "profile": self.profile.name,
            "seed": self.overrides.get("seed", self.config.get_parsed_content("seed")),
            "folds": {"of": len(self.plan.held_back), "finished": list(folds)},
            "cases": {
                "all": len(self.plan.labels),
                "patients": len(set(self.plan.patient_of.values())),
                "held_back_in_no_fold": self.plan.never(),
                "held_back_several_times": self.plan.several_times(),
            },
            **{key: measured[key] for key in ("policy", TOLERANCE) if key in measured},
            "definitions": DEFINITIONS,
            "train_seconds": {str(fold): _seconds(self.folder(fold)) for fold in folds},
            "versions": {
                "python": platform.python_version(),
                "custom_networks": __version__,
                **{name: version(name) for name in PACKAGES},
            },
        }

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        write_text(self.out / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def _say_cases(self) -> None:
        for names, what in (
            (self.plan.never(), "held back in no fold and measured by none"),
            (self.plan.several_times(), "held back in several folds and counted in each"),
        ):
            if names:
                more = ", ..." if len(names) > SHOWN else ""
                say(f"warning: {len(names)} cases are {what}: {', '.join(names[:SHOWN])}{more}")
        if start := self.config.get_parsed_content("finetune_ckpt"):
            seen = find_seen_cases(Path(start), self.bundle / "configs" / "folds.json")
            if known := known_to(seen, list(self.plan.labels)):
                say(f"warning: {known}")

    def _say_end(self, folds: Sequence[int], rows: Sequence[Row], decision: Mapping[str, Any]) -> None:
        figures = summarise(rows, self.plan.patient_of)["classes"]
        for name, own in figures.items():
            say(f"{name}: {_in_words(own['dice'])}")
        for name, means in decision["classes"].items():
            say(f"{LARGEST} of {name}: Dice {means['with']:.4f} with, {means['without']:.4f} without")
        say(f"written: {self.out / TABLE}, {SUMMARY}, {ENSEMBLE} with {LARGEST} {json.dumps(decision['chosen'])}")
        words = ["--bundle", str(self.bundle), "--profile", str(self.out / ENSEMBLE)]
        words += [word for fold in folds for word in ("--folds", str(self.folder(fold)))]
        say(f"predict: custom_networks predict IMAGES {shlex.join(words)} --out RESULTS")


def say(line: str) -> None:
    """Print a line at once, whole, from whichever thread.

    Args:
        line: without its end.
    """
    print(f"{line}\n", end="", flush=True)


def _seconds(folder: Path) -> float:
    """Return how long the epochs of a training took, all interruptions left out."""
    return round(sum(float(row["seconds"]) for row in read_curve(folder / "training_curve.csv")), 1)


def _in_words(figures: Mapping[str, Any]) -> str:
    """Return the figures of a metric for a terminal."""
    if figures["mean"] is None:
        return "Dice of no case"
    interval, spread = figures["interval"], figures["sd_over_folds"]
    words = f"Dice {figures['mean']:.4f}, {figures['n']} cases"
    words += "" if interval is None else f", 95 % interval {interval[0]:.4f} to {interval[1]:.4f}"
    return words + ("" if spread is None else f", standard deviation over folds {spread:.4f}")
