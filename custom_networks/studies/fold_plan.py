"""The folds that a profile and its data set have, and the cases that each of them holds back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from monai.bundle import ConfigParser

from custom_networks.files import data_folder
from custom_networks.workflow.data.cases import refuse
from custom_networks.workflow.data.folds import count_folds, split_cases
from custom_networks.workflow.data.layouts.finder import find_cases
from custom_networks.workflow.data.patients import patient_of_cases


@dataclass(frozen=True)
class FoldPlan:
    """The cases of a data set and of its folds.

    Args:
        labels: the label of every case by the name of the case.
        held_back: the names of the cases that each fold validates, of all folds.
        trained_on: how many cases each fold trains on.
        patient_of: the patient of every case, where something tells patients.
    """

    labels: dict[str, Path]
    held_back: list[list[str]]
    trained_on: list[int]
    patient_of: Mapping[str, str] = field(default_factory=dict)

    def usable(self) -> list[int]:
        """Return the folds that have something to train on and something to hold back."""
        return [
            fold
            for fold, (held_back, trained_on) in enumerate(zip(self.held_back, self.trained_on, strict=True))
            if held_back and trained_on
        ]

    def never(self) -> list[str]:
        """Return the cases that no fold holds back, so that nothing measures them."""
        held = {name for names in self.held_back for name in names}
        return sorted(set(self.labels) - held)

    def several_times(self) -> list[str]:
        """Return the cases that more than one fold holds back, which count more than others."""
        counts = Counter(name for names in self.held_back for name in names)
        return sorted(name for name, count in counts.items() if count > 1)

    def choose(self, given: str | None) -> list[int]:
        """Return the folds to run.

        Args:
            given: their numbers with commas between them, ``None`` for all that are usable.

        Raises:
            ValueError: if there is no such fold, or one holds nothing back.
        """
        usable = self.usable()
        if not usable:
            raise ValueError(f"{len(self.labels)} cases leave no fold with something to train on; add cases")
        if given is None:
            return usable
        known = ",".join(map(str, usable))
        words = [word.strip() for word in given.split(",")]
        wrong = [word for word in words if not word.isdecimal() or int(word) not in usable]
        if wrong:
            raise ValueError(f"--folds names {wrong[0]!r}, but the folds of these {len(self.labels)} cases are {known}")
        return sorted({int(word) for word in words})


def plan_folds(config: ConfigParser, default_folds: Path) -> FoldPlan:
    """Return the folds of a training.

    Args:
        config: its ``train.json`` with the profile laid over it.
        default_folds: the bundle's own file of folds, which need not exist.

    Raises:
        FileNotFoundError: if the data set or ``folds_file`` is absent.
        ValueError: if images and labels do not pair up, or the data set says itself what validates.
    """
    knobs = {
        knob: config.get_parsed_content(knob) for knob in ("dataset_dir", "folds_file", "image_glob", "label_glob")
    }
    root = data_folder(knobs["dataset_dir"])
    cases, problems, _ = find_cases(root, knobs["image_glob"], knobs["label_glob"])
    refuse(problems)
    files = knobs["folds_file"], default_folds
    number = count_folds(cases, root, *files)
    with _said_once():
        splits = [split_cases(cases, root, fold, *files) for fold in range(number)]
    labels = {case.name: case.label for case in cases}
    sides = [list(split.validation) for split in splits], [len(split.training) for split in splits]
    return FoldPlan(labels, *sides, patient_of_cases(root, {case.name: case.images[0] for case in cases}))


@contextmanager
def _said_once() -> Iterator[None]:
    """Keep what every split would say, of cases without a fold, to the one who counts them."""
    logger = logging.getLogger(split_cases.__module__)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
