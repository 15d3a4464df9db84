"""Where in a case each class lies, looked up once, for the choice of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

POSTFIX = "_indices"
"""What the key of the indices has after that of the label."""


class ClassIndicesd(MapTransform):
    """Add to a case the places of each class in its label, at most ``max_samples`` of a class, chosen at random.

    MONAI's ``ClassesToIndicesd`` takes evenly spaced ones, which can lie in few planes where the spacing and the size
    of the volume share a factor.

    Args:
        keys: labels; the list of one tensor per class goes to the key with ``_indices`` after it.
        num_classes: number of classes, of which the first is the background; other values, such as that of voxels
            without a label, are in none of them.
        max_samples: most places to keep of a class.

    Shape:
        label ``(1, *S)``; places are those of the label as one axis.

    Example:
        >>> places = ClassIndicesd("label", num_classes=3)
        >>> places({"label": torch.tensor([[[0, 2], [2, -1]]])})["label_indices"]
        [tensor([0], dtype=torch.int32), tensor([], dtype=torch.int32), tensor([1, 2], dtype=torch.int32)]
    """

    def __init__(self, keys: Sequence[str] | str, num_classes: int, max_samples: int = 10_000) -> None:
        super().__init__(keys)
        self.num_classes = num_classes
        self.max_samples = max_samples

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case with the places.

        Args:
            data: the case.
        """
        case = dict(data)
        for key in self.key_iterator(case):
            classes = torch.as_tensor(case[key]).flatten()
            foreground = (classes > 0).nonzero()[:, 0]
            of_foreground = classes[foreground]
            places = [(classes == 0).nonzero()[:, 0]]
            places += [foreground[of_foreground == number] for number in range(1, self.num_classes)]
            dtype = torch.int32 if len(classes) < 2**31 else torch.int64
            case[f"{key}{POSTFIX}"] = [self._some(indices).to(dtype) for indices in places]
        return case

    def _some(self, indices: torch.Tensor) -> torch.Tensor:
        """Return as many of the places as are kept, the same ones each time."""
        if len(indices) <= self.max_samples:
            return indices
        chosen = np.random.default_rng(0).choice(len(indices), self.max_samples, replace=False, shuffle=False)
        return indices[torch.from_numpy(chosen)]
