"""Which cases train and which validate: by a file of folds, by the lists of the data set, or by their rank."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from custom_networks.files import parse_json
from custom_networks.workflow.data.cases import TRAINING, VALIDATION, Case, case_name
from custom_networks.workflow.data.layouts.bids import subject_of
from custom_networks.workflow.data.layouts.files import INDEX, require_file
from custom_networks.workflow.data.patients import PATIENTS, read_patients

logger = logging.getLogger(__name__)

FOLDS = 5
ALL = "all"
SPLITS = "splits_final.json"
"""nnU-Net's file of splits, a list with "train" and "val" each."""
SHOWN = 3


class Split(NamedTuple):
    """Names of cases on both sides, and where that is said.

    Args:
        training: the cases to train on.
        validation: the cases to validate on.
        why: in words.
    """

    training: Sequence[str]
    validation: Sequence[str]
    why: str


def split_cases(
    cases: Sequence[Case],
    root: Path,
    fold: int | str = 0,
    folds_file: str | Path | None = None,
    default_folds: str | Path | None = None,
    all_new: str | None = None,
) -> Split:
    """Return which of the cases train and which validate.

    With the fold "all", all do both. Otherwise the first that there is decides: ``folds_file``; nnU-Net's
    ``splits_final.json`` in the data set folder; the list "validation" of ``dataset.json``; ``all_new``, with which all
    cases validate; ``default_folds``, if it names any of the cases; the rank modulo 5 among the sorted patients of
    ``patients.csv`` in the data set folder; that among the sorted names, where all cases of a BIDS subject have one
    rank. With ``all_new``, a ``folds_file`` that names none of the cases is that of
    the training and decides nothing.

    Args:
        cases: all cases.
        root: the data set folder.
        fold: number of the fold that validates, or "all".
        folds_file: a file of folds that must fit.
        default_folds: the bundle's own folds, which need not.
        all_new: why no case is among those that the weights to evaluate were trained on, in words.

    Raises:
        FileNotFoundError: if there is no ``folds_file``.
        ValueError: if a file is no file of folds, names none of the cases, or has no such fold, or ``patients.csv`` is
            to decide and does not fit the cases.
    """
    names = [case.name for case in cases]
    if fold == ALL:
        return Split(names, names, f"fold {ALL}")
    if isinstance(fold, bool) or not isinstance(fold, int):
        raise ValueError(f"fold must be a number or {ALL!r}, got {fold!r}; correct it")  # noqa: TRY004 - the value is wrong
    listed = [case.name for case in cases if case.section == VALIDATION]
    if all_new and folds_file is not None and not _named(Path(str(folds_file))) & set(names):
        folds_file = None
    file = Path(str(folds_file)) if folds_file is not None else root / SPLITS
    if folds_file is not None or file.exists() or file.is_symlink():
        if listed:
            logger.info("%s says what validates, not the list %r of %s", file, VALIDATION, INDEX)
        return _by_file(names, fold, file)
    if listed:
        return Split([case.name for case in cases if case.section == TRAINING], listed, f"the list of {INDEX}")
    if all_new:
        return Split(names, names, all_new)
    if default_folds is not None and Path(default_folds).is_file() and _named(Path(default_folds)) & set(names):
        return _by_file(names, fold, Path(default_folds))
    _check_fold(fold, FOLDS, "")
    told = read_patients(root, names)
    patients = told or {name: subject_of(name) or name for name in names}
    ranks = {patient: rank for rank, patient in enumerate(sorted(set(patients.values())))}
    validation = [name for name in names if ranks[patients[name]] % FOLDS == fold]
    among = f"patients of {root / PATIENTS}" if told else "names"
    return Split(_without(names, validation), validation, f"fold {fold}, rank among the sorted {among} modulo {FOLDS}")


def read_folds(file: Path) -> list[tuple[list[str], list[str]]]:
    """Return the names to train on and to validate on of each fold, without suffixes of files.

    Args:
        file: JSON; an object whose "folds" is a list of lists of names, each of which validates while the others train,
            or nnU-Net's list of objects with the lists "train" and "val".

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is anything else, or a name is on both sides of a fold.
    """
    require_file(file)
    try:
        content = parse_json(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); correct it") from error
    if isinstance(content, list):
        if not content or not all(isinstance(entry, Mapping) for entry in content):
            raise ValueError(
                f'{file} is a list, but not of objects with "train" and "val" as nnU-Net writes it; correct it'
            )
        splits = [
            (_names(file, entry.get("train"), number), _names(file, entry.get("val"), number))
            for number, entry in enumerate(content)
        ]
        for number, (training, validation) in enumerate(splits):
            if both := sorted(set(training) & set(validation)):
                raise ValueError(
                    f"{file} has {both[0]} in train and in val of split {number}; remove it from one of them"
                )
        return splits
    folds = content.get("folds") if isinstance(content, Mapping) else None
    if not isinstance(folds, list) or not folds:
        raise ValueError(f'{file} has no list "folds" of lists of case names; correct it')
    members = [_names(file, fold, number) for number, fold in enumerate(folds)]
    twice = [name for name, count in Counter(name for fold in members for name in fold).items() if count > 1]
    if twice:
        raise ValueError(f"{file} names {twice[0]} twice; a case belongs to one fold, remove it from the other")
    return [
        ([name for other, fold in enumerate(members) if other != number for name in fold], own)
        for number, own in enumerate(members)
    ]


def count_folds(
    cases: Sequence[Case],
    root: Path,
    folds_file: str | Path | None = None,
    default_folds: str | Path | None = None,
) -> int:
    """Return how many folds :func:`split_cases` knows.

    Args:
        cases: all cases.
        root: the data set folder.
        folds_file: see :func:`split_cases`.
        default_folds: see the same.

    Raises:
        FileNotFoundError: if there is no ``folds_file``.
        ValueError: if a file is no file of folds, or ``dataset.json`` says which cases validate, whatever the fold.
    """
    splits = root / SPLITS
    if folds_file is not None:
        return len(read_folds(Path(str(folds_file))))
    if splits.exists() or splits.is_symlink():
        return len(read_folds(splits))
    if any(case.section == VALIDATION for case in cases):
        raise ValueError(
            f"{root / INDEX} lists what validates, which is one split and no folds; set folds_file to a file of folds"
        )
    if default_folds is not None and Path(default_folds).is_file():
        named = _named(Path(default_folds))
        if any(case.name in named for case in cases):
            return len(read_folds(Path(default_folds)))
    return FOLDS


def _names(file: Path, names: Any, number: int) -> list[str]:
    """Return names without suffixes."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file} has something else than a list of case names in fold {number}; correct it")
    return [case_name(name) for name in names]


def _named(file: Path) -> set[str]:
    return {name for split in read_folds(file) for part in split for name in part}


def _by_file(names: Sequence[str], fold: int, file: Path) -> Split:
    splits = read_folds(file)
    known = _named(file)
    if known.isdisjoint(names):
        raise ValueError(
            f"{file} names no case of the data set: it has {_some(known)}, the data set {_some(names)}; correct the "
            f"names or the path, or, to evaluate cases that no training has seen, set fold to {ALL}"
        )
    _check_fold(fold, len(splits), f" with {file}")
    for what, missing in (
        ("cases of the data set are in no fold of", set(names) - known),
        ("names are of no case of the data set in", known - set(names)),
    ):
        if missing:
            logger.warning("%d %s %s; left out: %s", len(missing), what, file, _some(missing))
    training, validation = ([name for name in names if name in set(part)] for part in splits[fold])
    return Split(training, validation, f"fold {fold} of {len(splits)}, {file}")


def _check_fold(fold: int, folds: int, source: str) -> None:
    if not 0 <= fold < folds:
        raise ValueError(f"fold must lie between 0 and {folds - 1}{source}, got {fold}; the folds are counted from 0")


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    left = set(others)
    return [name for name in names if name not in left]


def _some(names: Sequence[str] | set[str]) -> str:
    shown = sorted(names)[:SHOWN]
    return ", ".join(shown) + (", ..." if len(names) > SHOWN else "")
