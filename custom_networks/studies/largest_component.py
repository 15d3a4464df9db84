"""Whether keeping the largest connected component of a class helps, decided on the masks of cases held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from monai.transforms import KeepLargestConnectedComponent

from custom_networks.workflow.data.volumes import as_integers, read_voxels
from custom_networks.workflow.transforms.class_labels import LabelValues, class_values
from custom_networks.workflow.transforms.region_transforms import LargestRegionsd
from custom_networks.workflow.transforms.regions import Regions, region_values

NOTE = (
    "decided on the masks of these very cases, each made by a network that had not seen it; all other figures are "
    "without it, and those here with it are too good by what the decision has learnt of the cases"
)


@dataclass(frozen=True)
class Classes:
    """What the values in labels and masks mean.

    Args:
        label_names: names, background first.
        label_values: see :func:`custom_networks.workflow.transforms.class_labels.class_values`.
        regions: see the same.
    """

    label_names: Sequence[str]
    label_values: LabelValues = None
    regions: Regions = None

    def masks(self, voxels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the mask of every class or region.

        Args:
            voxels: values as in the files.
        """
        values = class_values(self.label_names, self.label_values, self.regions)[1:]
        if self.regions is not None:
            values = region_values(self.label_names, self.regions)
        return {name: np.isin(voxels, own) for name, own in zip(self.label_names[1:], values, strict=True)}

    def largest(self, voxels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the same after the postprocessing of a prediction with ``largest_component``.

        Args:
            voxels: values as in the files.
        """
        if self.regions is None:
            keep = KeepLargestConnectedComponent(applied_labels=[0], is_onehot=True)
            return {
                name: np.asarray(keep(torch.as_tensor(mask[None]).float()))[0] > 0
                for name, mask in self.masks(voxels).items()
            }
        values = class_values(self.label_names, self.label_values, self.regions)
        numbers = np.zeros(voxels.shape, np.int16)
        for number, own in enumerate(values[1:], start=1):
            numbers[np.isin(voxels, own)] = number
        keep = LargestRegionsd("pred", self.label_names, self.regions)
        kept = np.asarray(keep({"pred": torch.as_tensor(numbers[None])})["pred"])[0]
        return self.masks(np.array([own[0] for own in values])[kept])


def dice(prediction: np.ndarray, reference: np.ndarray) -> float | None:
    """Return the Dice of two masks, ``None`` where both are empty.

    Args:
        prediction: boolean.
        reference: boolean.
    """
    size = int(prediction.sum()) + int(reference.sum())
    return 2 * int((prediction & reference).sum()) / size if size else None


def decide(pairs: Sequence[tuple[Path, Path]], classes: Classes) -> dict[str, Any]:
    """Compare the mean Dice of masks with and without the postprocessing, and choose what is better.

    Without regions each class is chosen for itself; regions, which hold each other, are chosen together by the mean
    over all of them.

    Args:
        pairs: mask and label of every case.
        classes: what their values mean.

    Returns:
        ``{"chosen", "classes": {name: {"without", "with"}}, "note"}``; what is chosen fits the knob
        ``largest_component``.
    """
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in classes.label_names[1:]}
    for mask, label in pairs:
        prediction = as_integers(mask, read_voxels(mask)[0])
        references = classes.masks(as_integers(label, read_voxels(label)[0]))
        for way, masks in enumerate((classes.masks(prediction), classes.largest(prediction))):
            for name, reference in references.items():
                value = dice(masks[name], reference)
                if value is not None:
                    found[name][way].append(value)
    means = {
        name: {"without": fmean(without), "with": fmean(largest)}
        for name, (without, largest) in found.items()
        if without
    }
    return {"chosen": _choose(means, classes.regions is not None), "classes": means, "note": NOTE}


def _choose(means: Mapping[str, Mapping[str, float]], together: bool) -> list[str] | bool:
    if together:
        return bool(means) and fmean(own["with"] - own["without"] for own in means.values()) > 0
    return [name for name, own in means.items() if own["with"] > own["without"]] or False
