"""Channels, classes or regions of a data set, as ``dataset.json`` and of its files say."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms.utils import get_largest_connected_component_mask
from scipy.ndimage import find_objects

from custom_networks.workflow.data.layouts.files import INDEX
from custom_networks.workflow.transforms.class_labels import check_ignore_value
from custom_networks.workflow.transforms.regions import region_values

BACKGROUND = "background"
# nnU-Net's word for what nobody has labelled
IGNORE = "ignore"
# labels with more values are images
MOST_CLASSES = 256
# share of a class that its largest connected component holds where the rest counts as stray voxels
IN_ONE_PIECE = 0.95


def channel_names(index: Mapping[str, Any]) -> list[str]:
    """Return the names of the channels in ``dataset.json``, if any.

    Args:
        index: its content.

    Raises:
        ValueError: if the entry names no channels.

    Example:
        >>> channel_names({"channel_names": {"0": "CT"}}), channel_names({"modality": "MRI"}), channel_names({})
        (['CT'], ['MRI'], [])
    """
    given = index.get("channel_names", index.get("modality"))
    if given is None:
        return []
    if not isinstance(given, Mapping | list | str) or not given:
        raise ValueError(
            f'{INDEX} has the modality {given!r}, which names no channels; write for example {{"0": "MRI"}}'
        )
    if isinstance(given, str):
        return [given]
    return [str(name) for name in (given.values() if isinstance(given, Mapping) else given)]


def named_labels(index: Mapping[str, Any]) -> dict[int, str]:
    """Return the names of the label values in ``dataset.json``, written as by the Decathlon or by nnU-Net, if any.

    "ignore" is none of them, see :func:`ignored_label`.

    Args:
        index: its content.

    Raises:
        ValueError: if a class has no integer of its own.

    Example:
        >>> named_labels({"labels": {"0": "background", "1": "heart"}})
        {0: 'background', 1: 'heart'}
        >>> named_labels({"labels": {"background": 0, "heart": 1}})
        {0: 'background', 1: 'heart'}
    """
    labels = index.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise ValueError(f"{INDEX} has labels that are no object; write them as in the Medical Decathlon")  # noqa: TRY004
    numbered = {key: name for key, name in labels.items() if re.fullmatch(r"-?\d+", key) and isinstance(name, str)}
    if len(numbered) == len(labels):
        return _one_name_each([(int(value), name) for value, name in numbered.items() if name != IGNORE])
    wrong = [name for name, value in labels.items() if not isinstance(value, int) or isinstance(value, bool)]
    if wrong:
        raise ValueError(f"{INDEX} gives the class {wrong[0]!r} the value {labels[wrong[0]]!r}; give it one integer")
    return _one_name_each([(value, name) for name, value in labels.items() if name != IGNORE])


def background_value(named: Mapping[int, str]) -> int:
    """Return the label value of what is no class.

    Args:
        named: names of the label values.

    Example:
        >>> background_value({1: "heart", 7: "Background"}), background_value({})
        (7, 0)
    """
    return next((value for value, name in named.items() if name.lower() == BACKGROUND), 0)


def ignored_label(index: Mapping[str, Any]) -> int | None:
    """Return the label value of voxels that nobody has labelled, which nnU-Net calls "ignore", if there is one.

    Args:
        index: the content of ``dataset.json``.

    Raises:
        ValueError: if it is no integer.

    Example:
        >>> ignored_label({"labels": {"background": 0, "heart": 1, "ignore": 2}})
        2
    """
    labels = index.get("labels")
    if not isinstance(labels, Mapping):
        return None
    numbered = [int(key) for key, name in labels.items() if name == IGNORE and re.fullmatch(r"-?\d+", key)]
    value = labels.get(IGNORE, next(iter(numbered), None))
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{INDEX} gives {IGNORE!r} the value {value!r}; give voxels without a label one integer")
    return value


def named_values(index: Mapping[str, Any]) -> set[int]:
    """Return every label value that ``dataset.json`` names: of a class, in a region, or without a label.

    Args:
        index: its content.

    Raises:
        ValueError: as :func:`named_labels`, :func:`label_regions` and :func:`ignored_label`.

    Example:
        >>> sorted(named_values({"labels": {"background": 0, "core": [2], "tumour": [1, 2], "ignore": -1}}))
        [-1, 0, 1, 2]
    """
    regions, ignored = label_regions(index), ignored_label(index)
    values = {value for own in regions.values() for value in own} if regions else set(named_labels(index))
    return values if ignored is None else values | {ignored}


def _one_name_each(pairs: Sequence[tuple[int, str]]) -> dict[int, str]:
    named: dict[int, str] = {}
    for value, name in pairs:
        if named.setdefault(value, name) is not name:
            raise ValueError(f"{INDEX} gives the value {value} to {named[value]!r} and to {name!r}; give each its own")
    return named


def label_regions(index: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the label values of the background and of each region in nnU-Net's ``dataset.json``, outer regions first.

    Nothing where every class has a value of its own.

    Args:
        index: its content.

    Raises:
        ValueError: if they are no regions that lie inside each other or apart.

    Example:
        >>> label_regions({"labels": {"background": 0, "core": [2], "tumour": [1, 2]}})
        {'background': [0], 'tumour': [1, 2], 'core': [2]}
        >>> label_regions({"labels": {"background": 0, "tumour": 1}})
        {}
    """
    labels = index.get("labels")
    if not isinstance(labels, Mapping) or not any(isinstance(value, list) for value in labels.values()):
        return {}
    listed = {name: value if isinstance(value, list) else [value] for name, value in labels.items() if name != IGNORE}
    inside = {name: values for name, values in listed.items() if values != [0]}
    outer_first = sorted(inside, key=lambda name: -len(inside[name]))
    background = next((name for name in listed if name not in inside), BACKGROUND)
    try:
        values = region_values([background, *outer_first], [inside[name] for name in outer_first])
    except ValueError as error:
        raise ValueError(f"{INDEX}: {error}") from error
    return {background: [0], **dict(zip(outer_first, values, strict=True))}


def classes_by_name(named: Mapping[int, str], values: Collection[int], background: int) -> dict[str, list[int]]:
    """Return the label values of each class, the background first; values of one name are one class.

    Args:
        named: names by label value; if empty, every value is a class.
        values: label values of the files.
        background: that of the background.

    Raises:
        ValueError: if there are too many values without a name.

    Example:
        >>> classes_by_name({}, [0, 7], 0)
        {'background': [0], 'label_7': [7]}
    """
    if not named and len(values) > MOST_CLASSES:
        raise ValueError(
            f"the labels hold {len(values)} values; give labels of at most {MOST_CLASSES} classes, or name them in "
            f"{INDEX}"
        )
    classes = {named.get(background, BACKGROUND): [background]}
    for value in sorted(named or values):
        if value != background:
            classes.setdefault(named.get(value, f"label_{value}"), []).append(value)
    return classes


def check_labels(classes: Mapping[str, Sequence[int]], voxels: Mapping[int, int], root: Path) -> None:
    """Refuse labels that hold values of no class, or background only.

    Args:
        classes: label values by name, the background first.
        voxels: number of voxels by label value.
        root: folder of the data set.

    Raises:
        ValueError: if they do.
    """
    unnamed = sorted(set(voxels) - {value for values in classes.values() for value in values})
    if unnamed:
        raise ValueError(
            f"the labels hold the value {unnamed[0]}, which the entry labels of {root / INDEX} does not name; add it "
            "there or correct the labels"
        )
    if not any(voxels.get(value) for values in list(classes.values())[1:] for value in values):
        raise ValueError(f"all labels under {root} are background only; there is nothing to learn: check the labels")


def check_ignore(value: int | None, classes: Mapping[str, Sequence[int]], regions: bool) -> None:
    """Refuse a value of voxels without a label that a class or region has, too.

    Args:
        value: the value, or None.
        classes: label values by name, the background first.
        regions: whether they are regions.

    Raises:
        ValueError: if one has it.
    """
    names, values = list(classes), list(classes.values())
    try:
        check_ignore_value(value, names, None if regions else values, values[1:] if regions else None)
    except ValueError as error:
        raise ValueError(f"{INDEX} names the value {value} {IGNORE!r}: {error}") from error


def label_volume(voxels: Mapping[int, int], without: Collection[int | None], spacing: Sequence[float]) -> float:
    """Return how many ml of a label are of classes.

    Args:
        voxels: number of voxels by label value.
        without: the values of no class.
        spacing: mm per voxel.

    Example:
        >>> label_volume({0: 7000, 1: 500, 2: 250}, [0], (1, 1, 2))
        1.5
    """
    return sum(count for value, count in voxels.items() if value not in without) * math.prod(spacing) / 1000


def in_one_piece(voxels: np.ndarray, values: Sequence[int]) -> bool:
    """Return whether one connected component holds at least 95 % of a class, or there is nothing of it.

    Args:
        voxels: label values ``(*S)``.
        values: those of the class.

    Example:
        >>> in_one_piece(np.array([[0, 1, 1], [1, 0, 0]]), [1]), in_one_piece(np.array([[1, 0, 1]]), [1])
        (True, False)
    """
    mask = np.zeros(voxels.shape, bool)
    for value in values:  # numpy.isin takes several times the memory
        mask |= voxels == value
    boxes = find_objects(mask.view(np.uint8))
    if not boxes:
        return True
    largest = get_largest_connected_component_mask(mask[boxes[0]])
    return bool(largest.sum() >= IN_ONE_PIECE * mask.sum())
