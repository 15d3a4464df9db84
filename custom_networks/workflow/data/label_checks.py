"""Whether a label fits its image and its classes: one function per question, each returns what is wrong.

What is wrong is a sentence without its subject, which is the label's file: a run raises the first, ``check`` lists all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from monai.data import MetaTensor

from custom_networks.workflow.data.formats.grid import Grid, farthest_apart
from custom_networks.workflow.data.volumes import AFFINE_TOLERANCE
from custom_networks.workflow.transforms.class_labels import LabelValues, class_values
from custom_networks.workflow.transforms.regions import Regions


def grid_of(volume: MetaTensor) -> Grid:
    """Return the grid of a volume.

    Args:
        volume: ``(C, *S)``.
    """
    return Grid(tuple(volume.shape[1:]), volume.shape[0], volume.affine.numpy())


def grid_problems(label: Grid, image: Grid, image_path: str | Path) -> list[str]:
    """Return why the voxels of a label are not those of its image.

    Args:
        label: grid of the label, from its header or its voxels.
        image: grid of the image, from the same.
        image_path: the image's file, for the sentences.
    """
    return [
        *channel_problems(label),
        *shape_problems(label, image, image_path),
        *affine_problems(label, image, image_path),
    ]


def channel_problems(label: Grid) -> list[str]:
    """Return whether a label has other than one channel.

    Args:
        label: its grid.
    """
    if label.channels == 1:
        return []
    return [f"has {label.channels} channels where one of class indices is expected; merge them"]


def shape_problems(label: Grid, image: Grid, image_path: str | Path) -> list[str]:
    """Return whether a label has other voxels per axis than its image.

    Args:
        label: its grid.
        image: that of the image.
        image_path: the image's file.
    """
    if label.shape == image.shape:
        return []
    return [f"has shape {label.shape} but its image {image_path} {image.shape}; resample one"]


def affine_problems(label: Grid, image: Grid, image_path: str | Path) -> list[str]:
    """Return whether the voxels of a label lie elsewhere than those of its image.

    Args:
        label: its grid.
        image: that of the image.
        image_path: the image's file.
    """
    comparable = label.affine.shape == image.affine.shape == (4, 4)
    difference = farthest_apart(label.affine, image.affine, image.shape) if comparable else math.inf
    if difference <= AFFINE_TOLERANCE:  # not so for NaN
        return []
    return [
        f"has another affine than its image {image_path}, by up to {difference:.3g} mm; resample the label to the "
        "image or copy the right header"
    ]


def negative_problems(values: Collection[int], named: Collection[int] = ()) -> list[str]:
    """Return whether a label holds a value below zero that nobody has named, mostly a mistake of a type.

    Args:
        values: all that it holds.
        named: values with a name.

    Example:
        >>> negative_problems([0, -1], [-1])
        []
    """
    negative = [value for value in values if value < 0 and value not in named]
    if not negative:
        return []
    return [f"holds the label value {min(negative)}, below 0; correct the label, or name it in dataset.json"]


def value_problems(
    values: Collection[int],
    label_names: Sequence[str],
    label_values: LabelValues = None,
    regions: Regions = None,
) -> list[str]:
    """Return whether a label holds a value of no class; with regions such a value is background.

    Args:
        values: all that it holds.
        label_names: names of the classes, background first.
        label_values: see :func:`custom_networks.workflow.transforms.class_labels.class_values`.
        regions: see the same.
    """
    wrong = [] if regions is not None else values_of_no_class(values, class_values(label_names, label_values))
    if not wrong:
        return []
    if label_values is not None:
        return [
            f"holds the label value {wrong[0]}, which no entry of label_values names ({list(label_values)} for "
            f"{', '.join(label_names)}); correct the label or set label_values"
        ]
    return [
        f"holds the label value {wrong[0]} but there are {len(label_names)} classes (0 to {len(label_names) - 1}: "
        f"{', '.join(label_names)}); correct the label or set label_names"
    ]


def values_of_no_class(values: Collection[int], classes: Sequence[Sequence[int]]) -> list[int]:
    """Return the values that no class holds, sorted.

    Args:
        values: all that a label holds.
        classes: label values of every class.

    Example:
        >>> values_of_no_class([0, 7, 500], [[0], [500, 600]])
        [7]
    """
    return sorted(set(values) - {value for entry in classes for value in entry})


def is_empty(values: Collection[int], classes: Sequence[Sequence[int]] | None) -> bool:
    """Return whether a label is all background.

    Args:
        values: all that it holds.
        classes: label values of every class, background first; if ``None``, any value but zero is foreground.

    Example:
        >>> is_empty([0, 9], [[0, 9], [1]]), is_empty([0, 9], None)
        (True, False)
    """
    if classes is None:
        return not any(values)
    return set(values).isdisjoint(value for entry in classes[1:] for value in entry)
