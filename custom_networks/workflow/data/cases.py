"""Which cases a data set folder holds: files of image and label that belong together, and what is wrong with others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks.files import read_json

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
INDEX = "dataset.json"
TRAINING, VALIDATION = SECTIONS = ("training", "validation")
FOLDERS = ("imagesTr", "labelsTr")


@dataclass(frozen=True)
class Case:
    """An image and its label.

    Args:
        image: a file, or the folder of a DICOM series.
        label: the same.
        section: the list of ``dataset.json`` that names them, "training" or "validation"; ``None`` if they were found
            by their names.
    """

    image: Path
    label: Path
    section: str | None = None


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file; as text, a sentence about it.

    Args:
        path: the file.
        what: the sentence without its subject, which is the file.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.path} {self.what}"


def refuse(problems: Sequence[Problem]) -> None:
    """Raise the first problem, if there is any, and say how many there are.

    Args:
        problems: all of them.

    Raises:
        ValueError: if there is one.
    """
    if problems:
        more = f" (1 of {len(problems)} problems; custom_networks check lists them)" if len(problems) > 1 else ""
        raise ValueError(f"{problems[0]}{more}")


def case_name(path: str | Path) -> str:
    """Return the file or folder name without an image suffix.

    Args:
        path: an image file or a DICOM series folder.

    Example:
        >>> case_name("imagesTr/hippocampus_003.nii.gz")
        'hippocampus_003'
    """
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def is_image_file(path: Path) -> bool:
    """Tell a NIfTI or NRRD file by its name.

    Args:
        path: any file or folder.
    """
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def is_series(path: Path) -> bool:
    """Tell the folder of a DICOM series by a file with the magic word.

    Args:
        path: any file or folder.
    """
    return path.is_dir() and any(
        _is_dicom(file) for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")
    )


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_index(root: Path) -> dict[str, Any]:
    """Return the content of ``dataset.json``, nothing if there is none.

    Args:
        root: the data set folder.

    Raises:
        ValueError: if it is no JSON object.
    """
    return read_json(root / INDEX) if (root / INDEX).is_file() else {}


def find_cases(
    root: Path, image_glob: str | None = None, label_glob: str | None = None
) -> tuple[list[Case], list[Problem]]:
    """Return the cases whose files exist, and what is wrong with the others.

    The cases are those of the lists "training" and "validation" in ``dataset.json``, in their order. If there are no
    such lists, or a pattern is given, they are the images and labels of one name, in the order of the names. Hidden
    files, and files of other formats, are no images.

    Args:
        root: the data set folder.
        image_glob: pattern under it for images; if ``None`` and nothing is listed, what ``imagesTr`` holds.
        label_glob: the same for labels, ``labelsTr``.

    Raises:
        FileNotFoundError: if there is no image or no label at all.
        ValueError: if ``dataset.json`` is no JSON object.
    """
    index = {} if image_glob or label_glob else read_index(root)
    if any(index.get(section) for section in SECTIONS):
        return _listed(root, index)
    return _paired(root, image_glob, label_glob)


def _listed(root: Path, index: Mapping[str, Any]) -> tuple[list[Case], list[Problem]]:
    """Read the lists of ``dataset.json``, whose paths are relative to it."""
    cases: list[Case] = []
    problems: list[Problem] = []
    for section in SECTIONS:
        entries = index.get(section) or []
        if not isinstance(entries, list):
            problems.append(Problem(root / INDEX, f"has {section!r} as no list; list one image and one label per case"))
        elif section == TRAINING and not entries:
            problems.append(Problem(root / INDEX, f"has no case in {section!r}; add at least one case"))
        else:
            _read_list(root, section, entries, cases, problems)
    return cases, problems


def _read_list(root: Path, section: str, entries: Sequence[Any], cases: list[Case], problems: list[Problem]) -> None:
    first: dict[str, Path] = {}
    for number, entry in enumerate(entries):
        named = [entry.get(key) for key in ("image", "label")] if isinstance(entry, dict) else []
        paths = [root / os.path.normpath(path) for path in named if isinstance(path, str)]
        if len(paths) < 2:
            what = f"has no image or no label in entry {number} of {section!r}; add the missing path"
            problems.append(Problem(root / INDEX, what))
            continue
        image, label = paths
        other = first.setdefault(case_name(image), image)
        if other is not image:
            problems.append(
                Problem(image, f"is listed twice in {section!r} of {INDEX}; remove one entry")
                if other == image
                else _of_one_name(image, other, root)
            )
        absent = [path for path in paths if not path.exists()]
        problems += [
            Problem(path, f"is listed in {INDEX} but absent; restore it or correct the list") for path in absent
        ]
        if not absent:
            cases.append(Case(image, label, section))


def _paired(root: Path, image_glob: str | None, label_glob: str | None) -> tuple[list[Case], list[Problem]]:
    """Put images and labels of one name together."""
    patterns = [given or f"{folder}/*" for given, folder in zip((image_glob, label_glob), FOLDERS, strict=True)]
    matches = [_matches(root, pattern) for pattern in patterns]
    if not any(matches) and not image_glob and not label_glob:
        raise FileNotFoundError(_nothing(root))
    for paths, pattern, knob in zip(matches, patterns, ("image_glob", "label_glob"), strict=True):
        if not paths:
            raise FileNotFoundError(f"no NIfTI or NRRD file matches {root / pattern}; set dataset_dir or {knob}")
    problems: list[Problem] = []
    images, labels = (_by_name(paths, root, problems) for paths in matches)
    for one, other, missing in ((images, labels, "label"), (labels, images, "image")):
        what = f"has no {missing} of the same name; add the {missing} or remove this file"
        problems += [Problem(one[name], what) for name in sorted(set(one) - set(other))]
    return [Case(images[name], labels[name]) for name in sorted(set(images) & set(labels))], problems


def _matches(root: Path, pattern: str) -> list[Path]:
    paths = (path for path in sorted(root.glob(pattern)) if not path.name.startswith("."))
    return [path for path in paths if is_image_file(path) or is_series(path)]


def _by_name(paths: Sequence[Path], root: Path, problems: list[Problem]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        first = named.setdefault(case_name(path), path)
        if first is not path:
            problems.append(_of_one_name(path, first, root))
    return named


def _of_one_name(path: Path, other: Path, root: Path) -> Problem:
    what = "give every case a file name of its own, results are listed by it"
    return Problem(path, f"has the case name of {below(other, root)}; {what}")


def _nothing(root: Path) -> str:
    images, labels = FOLDERS
    if (root / INDEX).is_file():
        return (
            f"{root / INDEX} has no case in {TRAINING!r} and there is no image in {root / images}; add at least one "
            f"case, or give patterns: --images and --labels of check and adapt, the knobs image_glob and label_glob"
        )
    return (
        f"there is no {root / INDEX}; set dataset_dir to a Decathlon folder, or to one with {images} and {labels}, or "
        f"give patterns: --images and --labels of check and adapt, the knobs image_glob and label_glob"
    )


def shared_cases(cases: Sequence[Case], root: Path) -> list[Problem]:
    """Name the cases to validate on that have the name of one to train on.

    Args:
        cases: all that ``dataset.json`` lists.
        root: the data set folder.
    """
    trained = {case_name(case.image): case.image for case in cases if case.section == TRAINING}
    return [
        Problem(case.image, f"is to validate on, but {below(trained[name], root)} of the same name is to train on")
        for case in cases
        if case.section == VALIDATION and (name := case_name(case.image)) in trained
    ]


def below(path: Path, root: Path) -> Path:
    """Return a path relative to a folder, or as it is if it lies elsewhere.

    Args:
        path: the path.
        root: the folder.
    """
    return path.relative_to(root) if root in path.parents else path
