"""The lists "training" and "validation" of a ``dataset.json``, as the Medical Segmentation Decathlon and MONAI have."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from custom_networks.workflow.data.cases import SECTIONS, TRAINING, Case, Found, Problem, case_name, same_name
from custom_networks.workflow.data.layouts.files import INDEX
from custom_networks.workflow.data.layouts.nnunet import channel_files, number_of_channels, split_channel

PART = re.compile(r"[^_.\-]+|[_.\-]")


def read_lists(root: Path, index: Mapping[str, Any]) -> Found | None:
    """Return the cases that ``dataset.json`` lists, ``None`` if it lists none.

    The paths are relative to it. An image may be a list, one file per channel. An image ``case.nii.gz`` that is absent
    while there are ``case_0000.nii.gz`` and so on, as nnU-Net v1 has it, is these channels.

    Args:
        root: the data set folder.
        index: the content of its ``dataset.json``.
    """
    if not any(index.get(section) for section in SECTIONS):
        return None
    read: list[tuple[str, tuple[Path, ...], Path]] = []
    problems: list[Problem] = []
    for section in SECTIONS:
        entries = index.get(section) or []
        if not isinstance(entries, list):
            problems.append(Problem(root / INDEX, f"has {section!r} as no list; list one image and one label per case"))
        elif section == TRAINING and not entries:
            problems.append(Problem(root / INDEX, f"has no case in {section!r}; add at least one case"))
        for number, entry in enumerate(entries if isinstance(entries, list) else []):
            pair = _paths(root, entry)
            if pair is None:
                what = f"has no image or no label in entry {number} of {section!r}; add the missing path"
                problems.append(Problem(root / INDEX, what))
            else:
                read.append((section, _as_channels(pair[0], number_of_channels(index)), pair[1]))
    cases: list[Case] = []
    first: dict[tuple[str, str], Path] = {}
    for name, (section, images, label) in zip(_names([images for _, images, _ in read]), read, strict=True):
        other = first.setdefault((section, name), images[0])
        if other is not images[0]:
            problems.append(
                Problem(images[0], f"is listed twice in {section!r} of {INDEX}; remove one entry")
                if other == images[0]
                else same_name(images[0], other, root)
            )
        absent = [path for path in (*images, label) if not path.exists()]
        problems += [
            Problem(path, f"is listed in {INDEX} but absent; restore it or correct the list") for path in absent
        ]
        if not absent:
            cases.append(Case(name, images, label, section))
    return Found(cases, problems, f"listed in {INDEX}")


def _paths(root: Path, entry: Any) -> tuple[tuple[Path, ...], Path] | None:
    """Return the images and the label of an entry, ``None`` if it lacks one of them."""
    image, label = (entry.get(key) for key in ("image", "label")) if isinstance(entry, dict) else (None, None)
    images = image if isinstance(image, list) else [image]
    if not images or not all(isinstance(path, str) for path in [*images, label]):
        return None
    files = [root / os.path.normpath(path) for path in [*images, label]]
    return tuple(files[:-1]), files[-1]


def _as_channels(images: tuple[Path, ...], channels: int | None) -> tuple[Path, ...]:
    if len(images) > 1 or images[0].exists():
        return images
    found = channel_files(images[0], channels)
    return found if found[0].exists() else images


def _names(images: Sequence[tuple[Path, ...]]) -> list[str]:
    """Return the names of the cases: those of the files, or of their folders where all files are called the same."""
    names = [_name(files) for files in images]
    folders = [files[0].parent.name for files in images]
    return folders if len(set(names)) == 1 < len(set(folders)) == len(names) else names


def _name(files: tuple[Path, ...]) -> str:
    """Return the file's name, of several the words that they begin with, else that of their folder."""
    if len(files) == 1:
        return case_name(files[0])
    numbered = [split_channel(path) for path in files]
    if len({pair and pair[0] for pair in numbered}) == 1 and numbered[0]:
        return numbered[0][0]
    words = zip(*(PART.findall(case_name(path)) for path in files), strict=False)
    same = takewhile(lambda own: len(set(own)) == 1, words)
    return "".join(own[0] for own in same).strip("_.-") or files[0].parent.name
