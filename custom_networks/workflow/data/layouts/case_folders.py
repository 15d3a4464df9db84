"""One folder per case with the same two file names in each, as KiTS has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_networks.workflow.data.cases import Case, Found, Problem
from custom_networks.workflow.data.layouts.files import broken, scan

IMAGE, LABEL = "imaging.nii.gz", "segmentation.nii.gz"


def read_kits(root: Path, index: Mapping[str, Any]) -> Found | None:
    """Return the cases of KiTS, called as their folders; ``None`` if no folder holds its two files.

    KiTS has cases without segmentation, for testing: they are left out, and their number is in the words of the layout.

    Args:
        root: the data set folder.
        index: not looked at.
    """
    folders = [path for path in scan(root) if path.is_dir()]
    problems = broken(path for folder in folders for path in (folder / IMAGE, folder / LABEL))
    whole = [folder for folder in folders if (folder / IMAGE).is_file() and (folder / LABEL).is_file()]
    if not whole:
        return None
    alone = [folder for folder in folders if (folder / LABEL).is_file() and not (folder / IMAGE).is_file()]
    problems += [Problem(folder / LABEL, f"has no {IMAGE} beside it; add the image or remove it") for folder in alone]
    bare = sum((folder / IMAGE).is_file() and not (folder / LABEL).exists() for folder in folders)
    cases = [Case(folder.name, (folder / IMAGE,), folder / LABEL) for folder in whole]
    return Found(cases, problems, f"KiTS's folders{left_out(bare, LABEL)}")


def left_out(count: int, what: str) -> str:
    """Return the words for images that a layout has without labels, nothing if there are none.

    Args:
        count: how many.
        what: the label that they lack.

    Example:
        >>> left_out(3, "segmentation.nii.gz")
        ', 3 images without segmentation.nii.gz left out'
    """
    return f", {count} image{'s' * (count > 1)} without {what} left out" if count else ""
