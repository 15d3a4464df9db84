"""Regions: foreground that overlaps, such as a whole tumour, the core inside it and what enhances inside the core.

A network with regions has one output per region and none for the background. Everywhere else a voxel has one class, as
without regions: the number of the innermost region that holds it, the first being 1, or 0 outside all of them. Since
regions lie inside each other or apart, the class tells every region that holds the voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

Regions = Sequence[int | Sequence[int]] | None


def region_values(label_names: Sequence[str], regions: Sequence[int | Sequence[int]]) -> list[list[int]]:
    """Return the label values of every region.

    Args:
        label_names: names, background first, then those of the regions.
        regions: one entry per region, a label value or a list of them; a region comes after those that it lies in.

    Raises:
        ValueError: if there are not as many entries as names, an entry is empty, no integer or 0, two regions overlap
            in any other way than the later one lying inside the earlier one, or a region has no value that is not of a
            later one too.

    Example:
        >>> region_values(["background", "tumour", "core"], [[1, 2], 1])
        [[1, 2], [1]]
    """
    names = list(label_names[1:])
    if len(regions) != len(names):
        raise ValueError(
            f"regions has {len(regions)} entries for the {len(names)} names after {label_names[0]} in label_names "
            f"({', '.join(names)}); give one list of label values per region"
        )
    values = [list(entry) if isinstance(entry, Sequence) else [entry] for entry in regions]
    for name, entry in zip(names, values, strict=True):
        if not entry or any(not isinstance(value, int) or isinstance(value, bool) for value in entry):
            raise ValueError(f"the region {name} has the label values {entry}; give one integer or more")
        if 0 in entry:
            raise ValueError(f"the region {name} has the label value 0, which is the background of masks; leave it out")
    for (outer, outer_values), (inner, inner_values) in combinations(zip(names, values, strict=True), 2):
        shared = set(outer_values) & set(inner_values)
        if shared and not shared >= set(inner_values):
            raise ValueError(
                f"the regions {outer} and {inner} share the label value {min(shared)}, but {inner} does not lie inside "
                f"{outer}; list outer regions before inner ones, and no regions that only overlap"
            )
    for name, own in zip(names, _own(values), strict=True):
        if not own:
            raise ValueError(
                f"every label value of the region {name} is also of a later region, so that none is left to write "
                f"where {name} is alone; leave {name} out or take a value from the later ones"
            )
    return values


def _own(values: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the values of every region that belong to no later one."""
    later = [{value for entry in values[number:] for value in entry} for number in range(1, len(values) + 1)]
    return [[value for value in entry if value not in taken] for entry, taken in zip(values, later, strict=True)]


def region_class_values(label_names: Sequence[str], regions: Sequence[int | Sequence[int]]) -> list[list[int]]:
    """Return the label values of every class: 0, then of each region those that belong to no later one.

    Args:
        label_names: names, background first.
        regions: see :func:`region_values`.

    Raises:
        ValueError: if the regions cannot be used.

    Example:
        >>> region_class_values(["background", "tumour", "core"], [[1, 2, 3], [1, 3]])
        [[0], [2], [1, 3]]
    """
    return [[0], *_own(region_values(label_names, regions))]


def region_classes(label_names: Sequence[str], regions: Sequence[int | Sequence[int]]) -> list[list[int]]:
    """Return the classes that every region holds: its own, and those of the regions inside it.

    Args:
        label_names: names, background first.
        regions: see :func:`region_values`.

    Raises:
        ValueError: if the regions cannot be used.

    Example:
        >>> region_classes(["background", "tumour", "core"], [[1, 2, 3], [1, 3]])
        [[1, 2], [2]]
    """
    values = region_values(label_names, regions)
    first = [own[0] for own in _own(values)]
    return [[number for number, value in enumerate(first, start=1) if value in entry] for entry in values]


def region_masks(classes: Tensor, held: Sequence[Sequence[int]], dim: int = 0) -> Tensor:
    """Return the mask of every region.

    Args:
        classes: class indices, with one channel.
        held: the classes of every region, see :func:`region_classes`.
        dim: axis of the channels.

    Shape:
        ``(..., 1, *S)`` to ``(..., R, *S)``, boolean.

    Example:
        >>> region_masks(torch.tensor([[0, 1, 2]]), [[1, 2], [2]])
        tensor([[False,  True,  True],
                [False, False,  True]])
    """
    return torch.cat([torch.isin(classes, torch.tensor(entry, device=classes.device)) for entry in held], dim)


def innermost(probabilities: Tensor) -> Tensor:
    """Return the class of every voxel: the last region whose probability is above one half, or 0.

    Args:
        probabilities: of every region.

    Shape:
        ``(R, *S)`` to ``(*S)``, int16.

    Example:
        >>> innermost(torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.2, 0.8, 0.7, 0.5]]))
        tensor([1, 2, 2, 0], dtype=torch.int16)
    """
    classes = torch.zeros(probabilities.shape[1:], dtype=torch.int16, device=probabilities.device)
    for number, region in enumerate(probabilities, start=1):
        classes[region > 0.5] = number
    return classes
