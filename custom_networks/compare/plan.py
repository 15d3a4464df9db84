"""What all networks of a comparison have in common, and the budget of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks.adapt.draft import Draft, say_schedule
from custom_networks.adapt.minutes import schedule_within
from custom_networks.adapt.network import as_config_value, from_config_value
from custom_networks.adapt.pace import Pace
from custom_networks.files import read_json
from custom_networks.workflow.data.layouts.finder import find_cases
from custom_networks.workflow.data.patients import join_copies, patient_of_cases
from custom_networks.workflow.data.segmentation_list import segmentation_data_list

SEARCH_SHARE = 0.2
"""Share of the budget that one trial of the search for a learning rate has."""
SEARCH_VALIDATION = 0.2
"""Share of the minutes of a trial that its validation may take."""
STEPS_OF_EPOCH = 100
NEEDED = ("dataset_dir", "in_channels", "label_names", "spacing", "patch_size", "batch_size")
SET = (
    "epochs",
    "val_interval",
    "steps_per_epoch",
    "gate_warm_up_epochs",
    "learning_rate",
    "early_stop",
    "seed",
    "fold",
)
"""Knobs that the comparison sets."""
OF_ONE = ("output_dir", "ckpt_dir", "resume_ckpt", "finetune_ckpt", "overwrite", "report")
"""Knobs of a single training."""


@dataclass(frozen=True)
class Budget:
    """What each training may take.

    Args:
        minutes: of wall time, with start and evaluation; ``None`` where steps are given.
        steps: optimiser steps; ``None`` where minutes are given.
    """

    minutes: float | None = None
    steps: int | None = None

    def share(self, part: float) -> Budget:
        """Return a part of it.

        Args:
            part: between 0 and 1.
        """
        return Budget(self.minutes and self.minutes * part, self.steps and max(1, round(self.steps * part)))

    @property
    def words(self) -> str:
        """It, for people."""
        return f"{self.steps} steps" if self.minutes is None else f"{self.minutes:g} minutes"


def common_knobs(profile: Path) -> dict[str, Any]:
    """Return the knobs of a profile that all networks share.

    Those of one network (``network_def``) and of a single training are left out, since the comparison sets them.

    Args:
        profile: a profile of ``adapt``, or one like it.

    Raises:
        ValueError: if an entry is missing.
    """
    given = from_config_value(read_json(profile))
    if missing := [knob for knob in NEEDED if knob not in given]:
        raise ValueError(f"{profile} has no {', '.join(missing)}; give a profile of custom_networks adapt")
    left_out = (*SET, *OF_ONE)
    knobs = {key: value for key, value in given.items() if key not in left_out and not key.startswith("network_def")}
    return {**knobs, "dataset_dir": str(Path(given["dataset_dir"]).resolve())}


def cases_of(knobs: Mapping[str, Any], bundle: Path, fold: int, section: str) -> list[str]:
    """Return the names of the cases of a fold.

    Args:
        knobs: the common knobs.
        bundle: a bundle whose own folds count where the data are its own.
        fold: its number.
        section: "training" or "validation".
    """
    globs = {name: knobs.get(name) for name in ("image_glob", "label_glob", "folds_file")}
    default = bundle / "configs" / "folds.json"
    cases = segmentation_data_list(knobs["dataset_dir"], section, fold=fold, default_folds=default, **globs)
    return [str(case["case"]) for case in cases]


def check_folds(knobs: Mapping[str, Any], bundles: Sequence[Path], folds: Sequence[int]) -> None:
    """Refuse folds that hold back the same cases, as all do where the data set lists one split, or not one's alone.

    Args:
        knobs: the common knobs.
        bundles: those of all networks, whose own folds count where the data are their own.
        folds: their numbers.

    Raises:
        ValueError: if two have a case in common, there is no such fold, or a fold of one bundle is another of another.
    """
    before: dict[str, int] = {}
    first, *others = dict.fromkeys(bundles)
    for fold in folds:
        held_back = cases_of(knobs, first, fold, "validation")
        for other in others:
            if cases_of(knobs, other, fold, "validation") != held_back:
                raise ValueError(
                    f"{first.name} and {other.name} hold back other cases in fold {fold}, each by its own folds of "
                    "these data; give a folds_file in the profile"
                )
        for name in held_back:
            if name in before:
                raise ValueError(
                    f"the folds {before[name]} and {fold} both hold back {name}, so they are no folds; give one, "
                    "or a folds_file in the profile"
                )
            before[name] = fold


def patients_of(knobs: Mapping[str, Any]) -> dict[str, str]:
    """Return the patient of every case of the data set; where nothing tells patients, each case is one.

    Patients who share a scan are one, so that no search for a learning rate scores what it was trained on.

    Args:
        knobs: the common knobs.

    Raises:
        ValueError: if ``patients.csv`` or an image cannot be used.
    """
    root = Path(knobs["dataset_dir"])
    cases, _, _ = find_cases(root, knobs.get("image_glob"), knobs.get("label_glob"))
    told = patient_of_cases(root, {case.name: case.images[0] for case in cases})
    return join_copies(told, {case.name: case.images for case in cases})


def schedule(budget: Budget, pace: Pace, bundle: Path, batch_size: int) -> dict[str, Any]:
    """Return the knobs with which a training takes its budget, with one validation, at its end.

    So the weights are those of the last epoch: none is chosen by the cases that the comparison scores.

    Args:
        budget: of the training.
        pace: how long its parts take.
        bundle: the bundle's folder.
        batch_size: patches per step.

    Raises:
        ValueError: if the minutes do not suffice.
    """
    usual = math.ceil(pace.cases / batch_size)
    if budget.steps is not None:
        epochs = max(1, round(budget.steps / STEPS_OF_EPOCH))
        steps = max(1, round(budget.steps / epochs))
    else:
        epochs, _, steps = schedule_within(float(budget.minutes or 0), pace, usual, most=1)
    draft = Draft()
    say_schedule(read_json(bundle / "configs" / "train.json"), epochs, epochs, steps, draft)
    return {**draft.profile, "steps_per_epoch": steps}


def as_profile(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return knobs as the content of a profile, the later part wins.

    Args:
        *parts: knobs.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part
    written: dict[str, Any] = as_config_value(merged)
    return written
