"""Which classes are compared, and what their label values are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks.adapt.labels import (
    BACKGROUND,
    MOST_CLASSES,
    check_ignore,
    classes_by_name,
    ignored_label,
    label_regions,
    named_labels,
)
from custom_networks.workflow.data.layouts.files import INDEX, read_index
from custom_networks.workflow.transforms.class_labels import LabelValues, check_ignore_value, class_values
from custom_networks.workflow.transforms.regions import Regions

KNOBS = ("label_names", "label_values", "regions", "ignore_value")
"""The knobs that say it."""


@dataclass(frozen=True)
class Classes:
    """Classes with their label values.

    Args:
        label_names: their names, the background first.
        label_values: see :func:`custom_networks.workflow.transforms.class_labels.class_values`.
        regions: see the same.
        ignore_value: value of voxels without a label.
        source: who says so, in words.
    """

    label_names: Sequence[str]
    label_values: LabelValues
    regions: Regions
    ignore_value: int | None
    source: str

    @property
    def values(self) -> list[list[int]]:
        """The label values of each class, the background first."""
        return class_values(self.label_names, self.label_values, self.regions)

    def unknown(self, held: Collection[int]) -> str | None:
        """Return whether a label map holds a value of no class: a sentence without its subject, which is the file.

        Args:
            held: all values that it holds.
        """
        wrong = sorted(set(held) - {value for entry in self.values for value in entry})
        if not wrong:
            return None
        known = ", ".join(
            f"{name} ({', '.join(map(str, entry))})" for name, entry in zip(self.label_names, self.values, strict=True)
        )
        return (
            f"holds the label value {wrong[0]}, but the classes of {self.source} are {known}; correct the file or the "
            "classes"
        )


def of_knobs(knobs: Mapping[str, Any], source: str) -> Classes:
    """Return the classes that the knobs of a profile or a config say.

    Args:
        knobs: their values.
        source: whose they are.

    Raises:
        ValueError: if they do not fit together, or there are no names.
    """
    names, values, regions, ignored = (knobs.get(knob) for knob in KNOBS)
    if names is None:
        raise ValueError(f"{source} has no label_names; add the names of the classes, or leave it out")
    try:
        check_ignore_value(ignored, names, values, regions)
        class_values(names, values, regions)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return Classes(names, values, regions, ignored, source)


def of_index(root: Path, beside: bool) -> Classes | None:
    """Return the classes that a ``dataset.json`` names, ``None`` if it names none, or is absent.

    Args:
        root: the folder of the labels.
        beside: whether the file may lie beside that folder, as it does beside ``labelsTr``.

    Raises:
        ValueError: if it is no JSON object, or its entry "labels" cannot be used.
    """
    folder = root.absolute().parent if beside and not (root / INDEX).exists() else root
    index = read_index(folder)
    regions, ignored = label_regions(index), ignored_label(index)
    named = {} if regions else named_labels(index)
    if regions:
        classes: Mapping[str, Sequence[int]] = regions
    elif named:
        background = next((value for value, name in named.items() if name.lower() == BACKGROUND), 0)
        classes = classes_by_name(named, (), background)
    else:
        return None
    check_ignore(ignored, classes, bool(regions))
    values, source = list(classes.values()), str(folder / INDEX)
    if regions:
        return Classes(list(classes), None, values[1:], ignored, source)
    return Classes(list(classes), values, None, ignored, source)


def of_values(held: Collection[int], root: Path) -> Classes:
    """Return a class for every label value, called as that; 0 is the background.

    Args:
        held: the values of all labels.
        root: where these are, for errors.

    Raises:
        ValueError: if there is no class, or there are too many.

    Example:
        >>> of_values({0, 4, 2}, Path("labels")).label_names
        ['background', '2', '4']
    """
    values = sorted(set(held) - {0})
    if not values:
        raise ValueError(f"all labels in {root} are background only; there is nothing to compare: check the labels")
    if len(values) > MOST_CLASSES:
        raise ValueError(
            f"the labels in {root} hold {len(values)} values; give labels of at most {MOST_CLASSES} classes, or name "
            f"them in {INDEX} or a --profile"
        )
    names = [BACKGROUND, *map(str, values)]
    return Classes(names, [0, *values], None, None, f"the labels in {root}")
