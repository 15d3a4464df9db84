"""Classes of a data set whose label values are not 0, 1, 2 and so on, or which is labelled by regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom_networks.workflow.transforms.regions import Regions, region_class_values

LabelValues = Sequence[int | Sequence[int]] | None
IGNORED = -1
"""What stands in the place of a class where nobody has labelled a voxel."""


def class_values(
    label_names: Sequence[str], label_values: LabelValues = None, regions: Regions = None
) -> list[list[int]]:
    """Return the label values of every class.

    With ``regions`` a class is the innermost region of a voxel, and has the values that belong to no later region.

    Args:
        label_names: names of the classes, background first.
        label_values: one entry per class, a value or a list of values that are taken together; 0, 1, 2, ... if None.
        regions: see :func:`custom_networks.workflow.transforms.regions.region_values`, or None.

    Raises:
        ValueError: if there are not as many entries as names, an entry is empty or no integer, two classes share a
            value, the regions cannot be used, or both are given.

    Example:
        >>> class_values(["background", "heart"], [0, [500, 600]])
        [[0], [500, 600]]
    """
    if regions is not None:
        if label_values is not None:
            raise ValueError("label_values and regions both say what a label value means; set one of them to null")
        return region_class_values(label_names, regions)
    if label_values is None:
        return [[index] for index in range(len(label_names))]
    if len(label_values) != len(label_names):
        raise ValueError(
            f"label_values has {len(label_values)} entries for the {len(label_names)} classes "
            f"{', '.join(label_names)}; give one value, or one list of values, per class"
        )
    values = [[entry] if isinstance(entry, int) else list(entry) for entry in label_values]
    owner: dict[int, str] = {}
    for name, entry in zip(label_names, values, strict=True):
        if not entry or any(not isinstance(value, int) or isinstance(value, bool) for value in entry):
            raise ValueError(f"label_values of {name} are {entry}; give one integer or more")
        for value in entry:
            if owner.setdefault(value, name) != name:
                raise ValueError(
                    f"label_values gives the value {value} to {owner[value]} and to {name}; a voxel has one class: "
                    "give the value to one of them"
                )
    return values


def check_ignore_value(
    ignore_value: int | None, label_names: Sequence[str], label_values: LabelValues = None, regions: Regions = None
) -> None:
    """Refuse a value of voxels without a label that is no integer, or that a class has.

    Args:
        ignore_value: the value, or None.
        label_names: names of the classes, background first.
        label_values: see :func:`class_values`.
        regions: see :func:`class_values`.

    Raises:
        ValueError: if it is, or ``label_values`` or ``regions`` does not fit the names.
    """
    if ignore_value is None:
        return
    if not isinstance(ignore_value, int) or isinstance(ignore_value, bool):
        raise ValueError(  # noqa: TRY004 - a knob is wrong
            f"ignore_value must be the one value of voxels without a label, got {ignore_value!r}; give an integer, or "
            "null if every voxel is labelled"
        )
    for name, values in zip(label_names, class_values(label_names, label_values, regions), strict=True):
        if ignore_value in values:
            raise ValueError(
                f"ignore_value is {ignore_value}, which is also the value of {name}; give voxels without a label a "
                "value of their own, or set ignore_value to null"
            )


class ClassLabelsd(MapTransform):
    """Replace the label values of a file by class indices, and the value of voxels without a label by ``IGNORED``.

    Args:
        keys: labels.
        label_names: names of the classes, background first.
        label_values: see :func:`class_values`.
        regions: see :func:`class_values`; a value that no region holds is background.
        ignore_value: value of voxels without a label. If this, ``label_values`` and ``regions`` are None, the values
            stay what they are.

    Shape:
        ``(1, *S)``, integers, to ``(1, *S)`` in float32, in which values of files might not be held.

    Raises:
        ValueError: if ``label_values``, ``regions`` or ``ignore_value`` does not fit the names, or, when called
            without regions, if a label holds another value.

    Example:
        >>> labels = ClassLabelsd("label", ["background", "heart"], [0, [500, 600]])
        >>> labels({"label": torch.tensor([[600, 0]])})["label"]
        tensor([[1., 0.]])
    """

    def __init__(
        self,
        keys: Sequence[str] | str,
        label_names: Sequence[str],
        label_values: LabelValues = None,
        regions: Regions = None,
        ignore_value: int | None = None,
    ) -> None:
        super().__init__(keys)
        check_ignore_value(ignore_value, label_names, label_values, regions)
        self.ignore_value = ignore_value
        self.unchanged = label_values is None and regions is None and ignore_value is None
        self.others_are_background = regions is not None
        self.values = class_values(label_names, label_values, regions)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case with class indices.

        Args:
            data: the case.
        """
        case = dict(data)
        for key in self.key_iterator(case):
            label = torch.as_tensor(case[key])
            if self.unchanged:
                case[key] = label.to(torch.float32)
                continue
            classes = torch.zeros_like(label, dtype=torch.float32)
            named = torch.zeros_like(label, dtype=torch.bool)
            for index, values in enumerate(self.values):
                here = torch.isin(label, torch.tensor(values, device=label.device))
                classes[here] = index
                named |= here
            if self.ignore_value is not None:
                ignored = label == self.ignore_value
                classes[ignored] = IGNORED
                named |= ignored
            if not (self.others_are_background or bool(named.all())):
                wrong = label[~named][0].item()
                raise ValueError(f"a label holds the value {wrong}, which no entry of label_values names; add it")
            case[key] = classes
        return case


class FileLabelsd(MapTransform):
    """Replace class indices by the label values of the data set; of several values of a class the first is written.

    Args:
        keys: label maps of class indices.
        label_names: names of the classes, background first.
        label_values: see :func:`class_values`.
        regions: see :func:`class_values`; the background is written as 0. If this and ``label_values`` are None, the
            maps stay as they are.

    Raises:
        ValueError: if ``label_values`` or ``regions`` does not fit the names.

    Example:
        >>> FileLabelsd("pred", ["background", "heart"], [0, 500])({"pred": torch.tensor([[1.0, 0.0]])})["pred"]
        tensor([[500,   0]], dtype=torch.int32)
    """

    def __init__(
        self,
        keys: Sequence[str] | str,
        label_names: Sequence[str],
        label_values: LabelValues = None,
        regions: Regions = None,
    ) -> None:
        super().__init__(keys)
        self.unchanged = label_values is None and regions is None
        self.values = [values[0] for values in class_values(label_names, label_values, regions)]
        # MONAI Label's writer takes 32 bits
        self.dtype = torch.int32 if all(-(2**31) <= value < 2**31 for value in self.values) else torch.int64

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case with the data set's label values.

        Args:
            data: the case.
        """
        case = dict(data)
        if self.unchanged:
            return case
        for key in self.key_iterator(case):
            classes = case[key]
            values = torch.tensor(self.values, dtype=self.dtype, device=torch.as_tensor(classes).device)
            mapped = values[torch.as_tensor(classes).long()]
            case[key] = MetaTensor(mapped).copy_meta_from(classes) if isinstance(classes, MetaTensor) else mapped
        return case


def label_dtype(label_names: Sequence[str], label_values: LabelValues = None, regions: Regions = None) -> np.dtype:
    """Return the smallest integer type that holds every label value; uint8 where it does.

    Args:
        label_names: names of the classes, background first.
        label_values: see :func:`class_values`.
        regions: see :func:`class_values`.

    Raises:
        ValueError: if ``label_values`` or ``regions`` does not fit the names, or a value has more than 64 bits.

    Example:
        >>> label_dtype(["background", "heart"], [0, 500])
        dtype('int16')
    """
    values = [value for entry in class_values(label_names, label_values, regions) for value in entry]
    for kind in (np.uint8, np.int16, np.int32, np.int64):
        if np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise ValueError(f"label values reach from {min(values)} to {max(values)}, more than 64 bits hold; renumber them")
