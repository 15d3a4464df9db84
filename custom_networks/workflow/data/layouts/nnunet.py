"""The raw folders of nnU-Net: one file per channel, whose number ends its name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.workflow.data.cases import SUFFIXES, Case, Found, Problem, case_name, same_name
from custom_networks.workflow.data.layouts.files import INDEX, broken, has_image_name, is_image_file, scan

CHANNEL = re.compile(r"(.+)_(\d{4})")
IMAGES, LABELS = "imagesTr", "labelsTr"
LAYOUT = "nnU-Net's raw folder"


def split_channel(path: Path) -> tuple[str, int] | None:
    """Return the case and the channel of a file, ``None`` if its name ends in no number of four digits.

    Args:
        path: the file.

    Example:
        >>> split_channel(Path("imagesTr/la_003_0001.nii.gz"))
        ('la_003', 1)
    """
    match = CHANNEL.fullmatch(case_name(path)) if has_image_name(path) else None
    return (match[1], int(match[2])) if match else None


def channel_file(path: Path, channel: int) -> Path:
    """Return the file of one channel.

    Args:
        path: the file as it would be called without channels.
        channel: its number.

    Example:
        >>> channel_file(Path("la_003.nii.gz"), 1).name
        'la_003_0001.nii.gz'
    """
    name = case_name(path)
    return path.with_name(f"{name}_{channel:04d}{path.name[len(name) :]}")


def channel_files(path: Path, channels: int | None) -> tuple[Path, ...]:
    """Return the files of all channels.

    Args:
        path: the file as it would be called without channels.
        channels: how many there are; if ``None``, as many as exist, one at least.
    """
    if channels is not None:
        return tuple(channel_file(path, channel) for channel in range(channels))
    found = [channel_file(path, 0)]
    while (following := channel_file(path, len(found))).exists():
        found.append(following)
    return tuple(found)


def number_of_channels(index: Mapping[str, Any]) -> int | None:
    """Return how many channels a ``dataset.json`` names, ``None`` if none.

    Args:
        index: its content.
    """
    names = index.get("channel_names") or index.get("modality")
    return len(names) if isinstance(names, Mapping | list) else None


def is_raw(index: Mapping[str, Any]) -> bool:
    """Tell the ``dataset.json`` of nnU-Net v2 from others.

    Args:
        index: its content.
    """
    return "channel_names" in index and "file_ending" in index


def read_nnunet(root: Path, index: Mapping[str, Any]) -> Found | None:
    """Return the cases of a raw folder of nnU-Net, ``None`` if it is none.

    It is one if ``dataset.json`` has the entry "dataset", or where an image in ``imagesTr`` is called as a label with
    the number of a channel behind it. How many channels there are says ``dataset.json``, else the highest number.

    Args:
        root: the data set folder.
        index: the content of its ``dataset.json``.
    """
    if is_raw(index) and isinstance(index.get("dataset"), Mapping):
        return _listed(root, index["dataset"])
    if not (root / IMAGES).is_dir() or not (root / LABELS).is_dir():
        return None
    ending = str(index.get("file_ending", "")).lower()
    wrong = [path for folder in (IMAGES, LABELS) for path in scan(root / folder) if has_image_name(path)]
    images, labels = (
        [path for path in scan(root / folder) if is_image_file(path) and path.name.lower().endswith(ending)]
        for folder in (IMAGES, LABELS)
    )
    named: dict[str, Path] = {}
    problems = broken(wrong)
    for label in labels:
        if (first := named.setdefault(case_name(label), label)) is not label:
            problems.append(same_name(label, first, root))
    if not any((pair := split_channel(image)) and pair[0] in named for image in images):
        return None
    cases: dict[str, dict[int, Path]] = {}
    for image in images:
        pair = split_channel(image)
        if pair is None:
            what = "has no number of a channel as the other images; call it"
            problems.append(Problem(image, f"{what} {channel_file(image, 0).name} if it is channel 0"))
        elif (first := cases.setdefault(pair[0], {}).setdefault(pair[1], image)) is not image:
            problems.append(same_name(image, first, root))
    given = number_of_channels(index)
    channels = given or 1 + max(number for own in cases.values() for number in own)
    says = f"{INDEX} names {channels} channels" if given else f"other cases have {channels} channels"
    found = []
    for name, own in sorted(cases.items()):
        wrong_channels = channel_problems(own, channels, says)
        problems += wrong_channels
        if name not in named:
            what = f"has no label {name} in {LABELS}; add the label or remove the images of this case"
            problems.append(Problem(min(own.values()), what))
        elif not wrong_channels:
            found.append(Case(name, tuple(own[channel] for channel in range(channels)), named[name]))
    problems += [
        Problem(label, f"has no image {name}_0000 in {IMAGES}; add the image or remove this file")
        for name, label in named.items()
        if name not in cases
    ]
    problems += _number_problem(root, index, len(named))
    return Found(found, problems, f"{LAYOUT}, {channels} channel{'s' * (channels > 1)} per case")


def channel_problems(own: Mapping[int, Path], channels: int, says: str) -> list[Problem]:
    """Return which channels of a case are absent or too many.

    Args:
        own: its files by channel.
        channels: how many there should be.
        says: who says so, in words.
    """
    some = next(iter(own.values()))
    name = case_name(some)[:-5]
    plain = some.with_name(name + some.name[len(name) + 5 :])
    absent = [channel_file(plain, channel) for channel in range(channels) if channel not in own]
    problems = [Problem(path, f"is absent, but {says}; add the file of this channel") for path in absent]
    return problems + [
        Problem(path, f"is channel {channel}, counted from 0, but {says}; remove it or correct {INDEX}")
        for channel, path in own.items()
        if channel >= channels
    ]


def _number_problem(root: Path, index: Mapping[str, Any], labels: int) -> list[Problem]:
    number = index.get("numTraining")
    if not isinstance(number, int) or number == labels:
        return []
    what = f"says {number} in numTraining, but {LABELS} holds {labels} labels; restore the files or correct the number"
    return [Problem(root / INDEX, what)]


def _listed(root: Path, entries: Mapping[str, Any]) -> Found:
    """Read the entry "dataset": files of each case, relative to the folder."""
    cases: list[Case] = []
    problems: list[Problem] = []
    for name, entry in entries.items():
        images, label = (entry.get(key) for key in ("images", "label")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(images, list) or not images or not all(isinstance(path, str) for path in [*images, label]):
            what = f"has no images or no label for the case {name} of its entry dataset; add the missing paths"
            problems.append(Problem(root / INDEX, what))
            continue
        paths = [root / os.path.normpath(path) for path in [*images, label]]
        absent = [path for path in paths if not path.exists()]
        problems += [
            Problem(path, f"is listed in {INDEX} but absent; restore it or correct the list") for path in absent
        ]
        if not absent:
            cases.append(Case(name, tuple(paths[:-1]), paths[-1]))
    return Found(cases, problems, f"{LAYOUT}, listed in {INDEX}")


def stacked(files: Sequence[Path], channels: int | None, certain: bool, says: str) -> dict[str, list[Path]] | None:
    """Return the channels of each case of a folder of images, ``None`` if the files are whole images.

    Args:
        files: the images in the folder.
        channels: how many channels a case has, if that is known.
        certain: whether a ``dataset.json`` of nnU-Net stands beside them. If not, all names must end in numbers of
            fewer than so many channels, and one file alone is an image: many number their cases.
        says: who says how many channels there are, in words.

    Raises:
        ValueError: if a channel is absent.
    """
    pairs = [split_channel(path) for path in files]
    if not files or channels is None or any(pair is None for pair in pairs):
        return None
    if not certain and (len(files) == 1 or any(pair[1] >= channels for pair in pairs if pair)):
        return None
    cases: dict[str, dict[int, Path]] = {}
    for path, pair in zip(files, pairs, strict=True):
        if pair and (first := cases.setdefault(pair[0], {}).setdefault(pair[1], path)) is not path:
            raise ValueError(f"{path} is the same channel of the same case as {first}; remove one of them")
    for own in cases.values():
        if problems := channel_problems(own, channels, says):
            raise ValueError(str(problems[0]))
    return {name: [own[channel] for channel in range(channels)] for name, own in cases.items()}


def file_ending_problem(root: Path, index: Mapping[str, Any]) -> str | None:
    """Return whether nnU-Net's ``file_ending`` is that of a format which is not read.

    Args:
        root: the data set folder.
        index: the content of its ``dataset.json``.
    """
    ending = str(index.get("file_ending", SUFFIXES[0])).lower()
    if not is_raw(index):
        return None
    if ending in SUFFIXES:
        images = [path for path in scan(root / IMAGES) if has_image_name(path)] if (root / IMAGES).is_dir() else []
        if "file_ending" not in index or not images or any(path.name.lower().endswith(ending) for path in images):
            return None
        return f"{root / INDEX} says {ending} in file_ending, but {images[0]} ends otherwise; correct file_ending"
    return f"{root / INDEX} says {ending} in file_ending; convert the files to one of {', '.join(SUFFIXES)}"
