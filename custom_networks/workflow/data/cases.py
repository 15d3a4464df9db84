"""What a case is: an image of one or more files and its label, under one name; and what is wrong with files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from custom_networks.workflow.data.formats import metaimage, nifti, nrrd

Files = str | Path | Sequence[str | Path]
"""An image as the lists of cases have it: a file, the folder of a DICOM series, or one file per channel."""

SUFFIXES: tuple[str, ...] = (*nifti.SUFFIXES, *nrrd.SUFFIXES, *metaimage.SUFFIXES)
FORMATS = "NIfTI, NRRD or MetaImage"
TRAINING, VALIDATION = SECTIONS = ("training", "validation")


@dataclass(frozen=True)
class Case:
    """An image and its label.

    Args:
        name: what results are listed under.
        images: a file, the folder of a DICOM series, or one file per channel.
        label: a file, or the folder of a DICOM series.
        section: the list of ``dataset.json`` that names them, "training" or "validation"; ``None`` if they were found
            by their names.
    """

    name: str
    images: tuple[Path, ...]
    label: Path
    section: str | None = None

    @property
    def image(self) -> Path:
        """The image's file, the first of several channels."""
        return self.images[0]


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


class Found(NamedTuple):
    """What a folder holds.

    Args:
        cases: the cases whose files exist, in the order of the layout.
        problems: what is wrong with the others.
        layout: how they were found, in words.
    """

    cases: list[Case]
    problems: list[Problem]
    layout: str


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


def voxel_file(path: Path) -> Path:
    """Return the file that holds the voxels of an image, which for MetaImage and NRRD may lie beside its header.

    Args:
        path: the file of the image.
    """
    for kind in (nrrd, metaimage):
        if path.name.lower().endswith(kind.SUFFIXES):
            return kind.voxel_file(path)
    return path


def files_of(image: Files) -> list[Path]:
    """Return the files of an image as the lists of cases have it.

    Args:
        image: a path, or one per channel.

    Example:
        >>> [path.name for path in files_of(["a_0000.nii.gz", "a_0001.nii.gz"])]
        ['a_0000.nii.gz', 'a_0001.nii.gz']
    """
    return [Path(path) for path in ([image] if isinstance(image, str | Path) else image)]


def same_name(path: Path, other: Path, root: Path) -> Problem:
    """Return what is wrong where two cases have one name.

    Args:
        path: image or label of the second.
        other: that of the first.
        root: the data set folder.
    """
    what = "give every case a name of its own, results are listed by it"
    return Problem(path, f"has the case name of {below(other, root)}; {what}")


def shared_cases(cases: Sequence[Case], root: Path) -> list[Problem]:
    """Name the cases to validate on that have the name of one to train on.

    Args:
        cases: all that ``dataset.json`` lists.
        root: the data set folder.
    """
    trained = {case.name: case.image for case in cases if case.section == TRAINING}
    return [
        Problem(
            case.image,
            f"is to validate on, but {below(trained[case.name], root)} of the same name is to train on; remove it from "
            f"one of the lists",
        )
        for case in cases
        if case.section == VALIDATION and case.name in trained
    ]


def below(path: Path, root: Path) -> Path:
    """Return a path relative to a folder, or as it is if it lies elsewhere.

    Args:
        path: the path.
        root: the folder.
    """
    return path.relative_to(root) if root in path.parents else path
