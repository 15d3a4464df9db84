"""What lies in a folder, with nothing passed over in silence: links that lead nowhere, folders with a file's name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from custom_networks.files import read_json
from custom_networks.workflow.data.cases import SUFFIXES, Problem
from custom_networks.workflow.data.formats.dicom import is_dicom

INDEX = "dataset.json"
# the table of contents of a medium, which is no image though it begins like one
DICOM_INDEX = "DICOMDIR"


def has_image_name(path: Path) -> bool:
    """Tell by its name whether a path would be an image file.

    Args:
        path: any path, existing or not.
    """
    return path.name.lower().endswith(SUFFIXES)


def is_image_file(path: Path) -> bool:
    """Tell a NIfTI, NRRD or MetaImage file by its name.

    Args:
        path: any file or folder.
    """
    return has_image_name(path) and path.is_file()


def is_slice(path: Path) -> bool:
    """Tell a DICOM file from others, and from the table of contents of a medium.

    Args:
        path: a file.

    Raises:
        ValueError: if it cannot be opened.
    """
    return path.name.upper() != DICOM_INDEX and is_dicom(path)


def is_series(path: Path) -> bool:
    """Tell the folder of a DICOM series by a file in it.

    Args:
        path: any file or folder.
    """
    return path.is_dir() and any(is_slice(file) for file in scan(path))


def scan(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted by name, without what is hidden.

    Args:
        folder: the folder.

    Raises:
        ValueError: if it may not be read.
    """
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise ValueError(f"{folder} cannot be read ({error.strerror}); change its permissions or move it") from error


def broken(paths: Iterable[Path]) -> list[Problem]:
    """Return which links lead nowhere, and which folders have the name of an image file.

    Args:
        paths: files, links and folders.
    """
    problems = []
    for path in paths:
        if path.is_symlink() and not path.exists():
            target = path.readlink()
            problems.append(Problem(path, f"is a link to {target}, which does not exist; restore that file"))
        elif has_image_name(path) and path.is_dir():
            problems.append(Problem(path, "is a folder with the name of an image file; rename it"))
    return problems


def read_index(root: Path) -> dict[str, Any]:
    """Return the content of ``dataset.json``, nothing if there is none.

    Args:
        root: the data set folder.

    Raises:
        ValueError: if it is no JSON object, a folder, or a link that leads nowhere.
    """
    path = root / INDEX
    if not path.exists() and not path.is_symlink():
        return {}
    require_file(path)
    return read_json(path)


def require_file(path: Path) -> None:
    """Refuse a path that is no file.

    Args:
        path: what was given.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is a folder, or a link that leads nowhere.
    """
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path} is a link to {path.readlink()}, which does not exist; restore that file")
    if path.is_dir():
        raise ValueError(f"{path} is a folder where a file is expected; remove it or correct the path")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; correct the path")
