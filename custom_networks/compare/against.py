"""Masks that were made elsewhere, beside the networks of a comparison: those of nnU-Net, or any others."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks.compare.plan import cases_of
from custom_networks.compare.trainings import METRICS, REPORT, Study
from custom_networks.evaluate.commands import Choice
from custom_networks.evaluate.two_folders import measure_folders
from custom_networks.files import data_folder, read_json, write_text

NNUNET = "nnU-Net"
SUMMARY = "summary.json"
AGREES = 0.005
"""Difference of a mean Dice to the one that nnU-Net's own summary states, up to which the two are of the same masks."""


@dataclass(frozen=True)
class Outside:
    """Masks of the held-back cases.

    Args:
        name: what the table calls them.
        folders: where the masks of each fold are.
    """

    name: str
    folders: Mapping[int, Path]


def find_outside(against: Sequence[Path], nnunet: Path | None, folds: Sequence[int]) -> list[Outside]:
    """Return the masks that take part.

    Args:
        against: folders of masks, which are called as they are; with a folder ``fold_0`` and so on in it for each fold
            where there is one.
        nnunet: the folder of a trained nnU-Net (``nnUNetTrainer__nnUNetPlans__3d_fullres``), whose masks are those of
            ``fold_0/validation`` and so on.
        folds: numbers of the folds.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if two have one name.
    """
    found = []
    for folder in against:
        root = data_folder(folder, "give the folder of the masks")
        parts = {fold: root / f"fold_{fold}" for fold in folds}
        found.append(Outside(root.resolve().name, {fold: own if own.is_dir() else root for fold, own in parts.items()}))
    if nnunet is not None:
        root = data_folder(nnunet, "give the folder of a trained nnU-Net, with fold_0 in it")
        folders = {fold: root / f"fold_{fold}" / "validation" for fold in folds}
        if missing := [own for own in folders.values() if not own.is_dir()]:
            raise FileNotFoundError(f"there is no {missing[0]}, where nnU-Net puts the masks of a fold; train it")
        found.append(Outside(NNUNET, folders))
    names = [own.name for own in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two folders of masks are called {twice[0]}; rename one of them")
    return found


def write_splits(study: Study) -> None:
    """Write the folds of a comparison as nnU-Net's ``splits_final.json``, with which it trains on the same cases.

    Args:
        study: the comparison.
    """
    host = study.fits[0].entry.bundle
    splits = [
        {
            "train": cases_of(study.knobs, host, fold, "training"),
            "val": cases_of(study.knobs, host, fold, "validation"),
        }
        for fold in study.folds
    ]
    write_text(study.folder / "splits_final.json", json.dumps(splits, indent=1) + "\n")


def rows_of_outside(study: Study, profile: Path, outside: Outside, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure masks that were made elsewhere as those of the comparison are measured.

    Args:
        study: the comparison.
        profile: says the classes.
        outside: the masks.
        say: takes a line where nnU-Net's own summary disagrees.

    Raises:
        ValueError: if a held-back case has no mask, or a mask has another grid than its label.
    """
    rows: list[dict[str, Any]] = []
    for fold in study.folds:
        cases = cases_of(study.knobs, study.fits[0].entry.bundle, fold, "validation")
        result = study.folder / "against" / outside.name / f"fold{fold}"
        labels = Path(study.knobs["dataset_dir"])
        measure_folders(outside.folders[fold], labels, [profile], Choice(tuple(cases)), None, result)
        with (result / METRICS).open(newline="", encoding="utf-8") as file:
            rows += [{"network": outside.name, "fold": fold, "seed": 0, **row} for row in csv.DictReader(file)]
        _compare_summary(outside.folders[fold] / SUMMARY, result / REPORT, say)
    return rows


def _compare_summary(theirs: Path, ours: Path, say: Callable[[str], None]) -> None:
    if not theirs.is_file():
        return
    try:
        stated = float(read_json(theirs)["foreground_mean"]["Dice"])
    except (KeyError, TypeError, ValueError):
        say(f"{theirs} states no mean Dice as nnU-Net does, and is not compared with what was measured")
        return
    measured = read_json(ours)["mean"]["dice"]
    if abs(stated - measured) > AGREES:
        say(f"warning: {theirs} states a mean Dice of {stated:.4f}, measured is {measured:.4f}; look at the labels")
