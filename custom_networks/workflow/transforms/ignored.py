"""Voxels without a label: metrics without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import MapTransform
from torch import Tensor

from custom_networks.workflow.transforms.class_labels import IGNORED


class SplitIgnoredd(MapTransform):
    """Set the voxels without a label aside: they become background, and a mask of them is added to the case.

    Args:
        keys: the label, one key.
        mask_key: where the mask goes.

    Shape:
        ``(1, *S)`` to ``(1, *S)`` in the type of the input, and a boolean mask of the same shape.

    Example:
        >>> SplitIgnoredd("label", "ignored")({"label": torch.tensor([[-1.0, 2.0]])})
        {'label': tensor([[0., 2.]]), 'ignored': tensor([[ True, False]])}
    """

    def __init__(self, keys: str, mask_key: str) -> None:
        super().__init__(keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case with the mask.

        Args:
            data: the case.
        """
        case = dict(data)
        for key in self.key_iterator(case):
            ignored = case[key] == IGNORED
            case[key] = case[key].masked_fill(ignored, 0)
            case[self.mask_key] = torch.as_tensor(ignored).as_subclass(Tensor)
        return case


class ClearIgnoredd(MapTransform):
    """Make the voxels of a mask background in one-hot maps, and let go of the mask.

    Args:
        keys: one-hot maps, the background first.
        mask_key: key of the mask, see :class:`SplitIgnoredd`.

    Shape:
        ``(C, *S)`` to ``(C, *S)``, in the type of the input; the mask is ``(1, *S)``.

    Example:
        >>> clear = ClearIgnoredd("pred", "ignored")
        >>> clear({"pred": torch.tensor([[0.0, 0.0], [1.0, 1.0]]), "ignored": torch.tensor([[True, False]])})
        {'pred': tensor([[1., 0.],
                [0., 1.]])}
    """

    def __init__(self, keys: Sequence[str] | str, mask_key: str) -> None:
        super().__init__(keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case without the mask.

        Args:
            data: the case.
        """
        case = dict(data)
        ignored = case.pop(self.mask_key)
        for key in self.key_iterator(case):
            cleared = case[key].masked_fill(ignored, 0)
            cleared[:1].masked_fill_(ignored, 1)
            case[key] = cleared
        return case
