"""BIDS: images of subjects and sessions, and their labels in a folder of derivatives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from custom_networks.workflow.data.cases import Case, Found, Problem, case_name
from custom_networks.workflow.data.layouts.case_folders import left_out
from custom_networks.workflow.data.layouts.files import broken, has_image_name
from custom_networks.workflow.data.layouts.paired import how_to_give

CASE = re.compile(r"(sub-[A-Za-z0-9]+(?:_ses-[A-Za-z0-9]+)?)_(?:.*_)?([A-Za-z0-9]+)")
SUBJECT = re.compile(r"(sub-[A-Za-z0-9]+)(?:_.*)?")
LABEL = "dseg"


def subject_of(name: str) -> str | None:
    """Return the subject of a case, ``None`` if its name has none.

    Args:
        name: the case's name.

    Example:
        >>> subject_of("sub-01_ses-2"), subject_of("hippocampus_003")
        ('sub-01', None)
    """
    match = SUBJECT.fullmatch(name)
    return match[1] if match else None


def is_bids(root: Path) -> bool:
    """Tell a BIDS folder by the folders of its subjects.

    Args:
        root: the data set folder.
    """
    return any(path.is_dir() for path in root.glob("sub-*")) and (
        (root / "dataset_description.json").is_file()
        or any(root.glob("sub-*/anat"))
        or any(root.glob("sub-*/ses-*/anat"))
    )


def anatomies(root: Path) -> list[Path]:
    """Return the anatomical images of a BIDS folder, sorted.

    Args:
        root: the folder.
    """
    return _named([*root.glob("sub-*/anat/*"), *root.glob("sub-*/ses-*/anat/*")])


def read_bids(root: Path, index: Mapping[str, Any]) -> Found | None:
    """Return the cases of a BIDS folder, called as subject and session; ``None`` if it is none.

    The images are those in ``anat``, the labels the files ``*_dseg`` of the derivatives. Images without a label are
    left out, and their number is in the words of the layout.

    Args:
        root: the data set folder.
        index: not looked at.

    Raises:
        ValueError: if there is no label, or there are several images or labels to choose from.
    """
    if not is_bids(root):
        return None
    images = anatomies(root)
    labels = [path for path in _named(root.glob("derivatives/*/sub-*/**/*")) if _split(path)[1] == LABEL]
    problems = broken([*images, *labels])
    if not images or not labels:
        where = "no *_dseg file in derivatives/*/sub-*" if images else "no image in sub-*/anat or sub-*/ses-*/anat"
        ways = how_to_give("sub-*/**/*_T1w.nii.gz", "derivatives/manual/sub-*/**/*_mask.nii.gz")
        raise ValueError(f"{root} is a BIDS folder, but there is {where}; give patterns, {ways}")
    choices = sorted({_pattern(path, root) for path in images})
    masks = sorted({_pattern(path, root) for path in labels})
    if len(choices) > 1 or len(masks) > 1:
        what = ", ".join(choices if len(choices) > 1 else masks)
        kind = "images" if len(choices) > 1 else "labels"
        raise ValueError(
            f"{root} is a BIDS folder with several {kind} to choose from, {what}; give patterns, "
            f"{how_to_give(choices[0], masks[0])}"
        )
    by_case = [{_split(path)[0]: path for path in paths} for paths in (images, labels)]
    problems += [
        Problem(path, f"has no image of {name} in anat; add the image or remove this file")
        for name, path in by_case[1].items()
        if name not in by_case[0]
    ]
    names = [name for name in by_case[0] if name in by_case[1]]
    cases = [Case(name, (by_case[0][name],), by_case[1][name]) for name in names]
    return Found(cases, problems, f"BIDS, {choices[0]}{left_out(len(images) - len(names), masks[0])}")


def _named(paths: Iterable[Path]) -> list[Path]:
    """Return what BIDS names, images only."""
    return sorted(path for path in paths if has_image_name(path) and _split(path)[0])


def _split(path: Path) -> tuple[str, str]:
    """Return subject and session of a file, and what it shows."""
    match = CASE.fullmatch(case_name(path))
    return (match[1], match[2]) if match else ("", "")


def _pattern(path: Path, root: Path) -> str:
    """Return the pattern of the files that are called as this one but for subject and session."""
    parts = path.relative_to(root).parts
    above = parts[:2] if parts[0] == "derivatives" else ()
    return "/".join([*above, "sub-*", "**", f"*{path.name.removeprefix(_split(path)[0])}"])
