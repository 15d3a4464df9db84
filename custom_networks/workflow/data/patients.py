"""Which cases are of one patient: by ``patients.csv``, by their names, or by the folders that they lie in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from custom_networks.workflow.data.cases import below, case_name
from custom_networks.workflow.data.layouts.bids import subject_of
from custom_networks.workflow.data.layouts.files import require_file
from custom_networks.workflow.data.tables import read_table
from custom_networks.workflow.data.volumes import read_volume

PATIENTS = "patients.csv"
"""File of a data set folder with the columns of ``COLUMNS``."""
COLUMNS = ("case", "patient")
FEWEST_PATIENTS = 3


class Patients(NamedTuple):
    """The cases of each patient.

    Args:
        groups: names of the cases, one list per patient.
        source: where that is said, in words.
        stated: whether ``patients.csv`` says it, which is no guess.
    """

    groups: list[list[str]]
    source: str
    stated: bool


def find_patients(root: Path, images: Mapping[str, Path]) -> Patients | None:
    """Return the cases of each patient by the first that tells them: ``patients.csv``, names, folders; else ``None``.

    Args:
        root: the data set folder.
        images: the image of every case by the case's name.

    Raises:
        FileNotFoundError: as :func:`read_patients`.
        ValueError: as :func:`read_patients`.
    """
    told = read_patients(root, images)
    if told is not None:
        groups: dict[str, list[str]] = {}
        for name in sorted(told, key=lambda name: (told[name], name)):
            groups.setdefault(told[name], []).append(name)
        return Patients(list(groups.values()), f"as {PATIENTS} says", True)
    for find, source in ((by_name, "by their names"), (_by_folder, "by their folders")):
        if found := find({name: below(image.parent, root).parts for name, image in images.items()}):
            return Patients(found, source, False)
    return None


def patient_of_cases(root: Path, images: Mapping[str, Path]) -> dict[str, str]:
    """Return a name for the patient of every case: the first case of the patient; where nothing tells, the case itself.

    Args:
        root: the data set folder.
        images: the image of every case by the case's name.

    Raises:
        ValueError: as :func:`read_patients`.
    """
    found = find_patients(root, images)
    groups = [[name] for name in images] if found is None else found.groups
    return {name: group[0] for group in groups for name in group}


def join_copies(patient_of: Mapping[str, str], images: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """Return the patient of every case, where those of whom one scan is the copy of another's are one patient.

    A data set may hold a scan twice under two numbers; apart, one would be trained on and the other score it. Reads
    every image once.

    Args:
        patient_of: the patient of every case.
        images: the files of every case's image.

    Raises:
        ValueError: if an image cannot be read.
    """
    joined, first = dict(patient_of), dict[bytes, str]()
    for name in sorted(images):
        digest = hashlib.blake2b(read_volume(images[name]).numpy()).digest()
        kept, other = joined[first.setdefault(digest, name)], joined[name]
        if kept != other:
            joined = {case: kept if patient == other else patient for case, patient in joined.items()}
    return joined


def read_patients(root: Path, names: Collection[str]) -> dict[str, str] | None:
    """Return the patient of every case by the file ``patients.csv`` of a data set, ``None`` if it has none.

    Args:
        root: the data set folder.
        names: the names of its cases; the file may have them with the suffix of a file.

    Raises:
        ValueError: if the file cannot be read, has other columns than case and patient, lacks a case, has one twice or
            an unknown one, or an entry is empty.
    """
    path = root / PATIENTS
    if not path.exists() and not path.is_symlink():
        return None
    require_file(path)
    known, patients, first = set(names), dict[str, str](), dict[str, int]()
    for line, entries in read_table(path, COLUMNS):
        name, patient = (entries[column] for column in COLUMNS)
        if not name or not patient:
            raise ValueError(f"line {line} of {path} has no case or no patient; complete it")
        name = name if name in known else case_name(name)
        if name not in known:
            raise ValueError(
                f"line {line} of {path} names {name}, which is no case of the data set; correct it or remove the line"
            )
        if first.setdefault(name, line) != line:
            raise ValueError(f"{path} names {name} in line {first[name]} and again in line {line}; keep one of them")
        patients[name] = patient
    if missing := sorted(known - set(patients)):
        raise ValueError(
            f"{path} lacks {len(missing)} of the {len(known)} cases of the data set, such as {missing[0]}; add a line "
            f"for each"
        )
    return patients


def by_name(names: Collection[str]) -> list[list[str]] | None:
    """Return the cases of each patient where their names tell that some have several, else ``None``.

    A patient is the shortest beginning of a name, ending where letters and digits meet or something else stands, that
    holds a digit, occurs in several names, and parts them into three groups or more and into more groups than the
    largest has members. So ``p1_ED, p1_ES, p2_ED, ...`` are patients and ``site1_001, site1_002, ...`` are none. Where
    all names are those of BIDS, a patient is a subject.

    Args:
        names: case names.

    Example:
        >>> by_name(["p1_ED", "p1_ES", "p2_ED", "p2_ES", "p3_ED"])
        [['p1_ED', 'p1_ES'], ['p2_ED', 'p2_ES'], ['p3_ED']]
        >>> by_name(["case_01", "case_02", "case_03"])
    """
    subjects: dict[str | None, list[str]] = {}
    for name in sorted(names):
        subjects.setdefault(subject_of(name), []).append(name)
    if None not in subjects and 1 < len(subjects) < len(names):
        return list(subjects.values())
    parts = {name: list(re.finditer(r"\d+|[^\W\d_]+", name)) for name in names}
    for length in range(1, max((len(found) for found in parts.values()), default=0)):
        groups: dict[str, list[str]] = {}
        for name, found in sorted(parts.items()):
            groups.setdefault(name[: found[length - 1].end()] if len(found) >= length else name, []).append(name)
        if _are_patients(groups):
            return list(groups.values())
    return None


def _by_folder(folders: Mapping[str, Sequence[str]]) -> list[list[str]] | None:
    """Return the cases of each patient by the uppermost folders whose names and sizes are as :func:`by_name` asks."""
    for depth in range(max(map(len, folders.values()), default=0)):
        groups: dict[str, list[str]] = {}
        for name, parts in sorted(folders.items()):
            groups.setdefault("/".join(parts[: depth + 1]), []).append(name)
        if _are_patients(groups):
            return list(groups.values())
    return None


def _are_patients(groups: Mapping[str, Sequence[str]]) -> bool:
    """Tell cases of patients, called by numbers, from cases of a few sites or years."""
    largest = max(map(len, groups.values()))
    numbered = all(any(letter.isdigit() for letter in group.rpartition("/")[2]) for group in groups)
    return numbered and len(groups) >= FEWEST_PATIENTS and len(groups) > largest > 1


def shared_patients(
    groups: Sequence[Sequence[str]], training: Collection[str], validation: Collection[str]
) -> dict[str, str]:
    """Return of each case to validate on whose patient is trained on as well one that is.

    Args:
        groups: the cases of each patient.
        training: the cases to train on.
        validation: the cases to validate on.

    Example:
        >>> shared_patients([["p1_a", "p1_b"], ["p2"]], ["p1_a"], ["p1_b", "p2"])
        {'p1_b': 'p1_a'}
    """
    return {
        name: trained[0]
        for group in groups
        if (trained := [name for name in group if name in training])
        for name in group
        if name in validation
    }
