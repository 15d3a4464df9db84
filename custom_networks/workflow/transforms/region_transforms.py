"""Transforms between the outputs of a network with regions, classes, and the masks that metrics compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import KeepLargestConnectedComponent, MapTransform
from torch import Tensor

from custom_networks.workflow.transforms.regions import Regions, innermost, region_classes, region_masks


class RegionTransform(MapTransform):
    """Change maps by their regions; without regions leave them as they are.

    Args:
        keys: maps.
        label_names: names, background first.
        regions: see :func:`custom_networks.workflow.transforms.regions.region_values`, or None.

    Raises:
        ValueError: if ``regions`` cannot be used.
    """

    def __init__(self, keys: Sequence[str] | str, label_names: Sequence[str], regions: Regions = None) -> None:
        super().__init__(keys)
        self.held = None if regions is None else region_classes(label_names, regions)

    def change(self, volume: Tensor, held: Sequence[Sequence[int]]) -> Tensor:
        """Return the changed map.

        Args:
            volume: the map.
            held: the classes of every region.
        """
        raise NotImplementedError

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case with changed maps.

        Args:
            data: the case.
        """
        case = dict(data)
        if self.held is None:
            return case
        for key in self.key_iterator(case):
            volume = case[key]
            changed = self.change(torch.as_tensor(volume).as_subclass(Tensor), self.held)
            case[key] = MetaTensor(changed).copy_meta_from(volume) if isinstance(volume, MetaTensor) else changed
        return case


class RegionClassesd(RegionTransform):
    """Replace the probabilities of regions by classes: the last region above one half, or 0.

    Where an inner region is, those around it are, too, whatever their own probability.

    Args:
        keys: probabilities.
        label_names: names, background first.
        regions: see :func:`custom_networks.workflow.transforms.regions.region_values`; None leaves the maps as they
            are.

    Shape:
        ``(R, *S)`` to ``(1, *S)``, int16.

    Raises:
        ValueError: if ``regions`` cannot be used.

    Example:
        >>> to_classes = RegionClassesd("pred", ["background", "tumour", "core"], [[1, 2], [1]])
        >>> to_classes({"pred": torch.tensor([[0.9, 0.8, 0.3], [0.9, 0.1, 0.2]])})["pred"]
        tensor([[2, 1, 0]], dtype=torch.int16)
    """

    def change(self, volume: Tensor, held: Sequence[Sequence[int]]) -> Tensor:
        """Return the classes.

        Args:
            volume: probabilities.
            held: the classes of every region.
        """
        if len(volume) != len(held):
            raise ValueError(f"the network has {len(volume)} outputs for {len(held)} regions; set its out_channels")
        return innermost(volume)[None]


class LargestRegionsd(RegionTransform):
    """Keep the largest connected part of every region; the rest of it becomes what lies around it.

    The regions are taken in their order, so that what is cut off an outer region takes the inner ones in it along.

    Args:
        keys: maps of classes.
        label_names: names, background first.
        regions: see :func:`custom_networks.workflow.transforms.regions.region_values`; None leaves the maps as they
            are.

    Shape:
        ``(1, *S)`` to ``(1, *S)``.

    Raises:
        ValueError: if ``regions`` cannot be used.

    Example:
        >>> largest = LargestRegionsd("pred", ["background", "tumour", "core"], [[1, 2], [1]])
        >>> largest({"pred": torch.tensor([[2, 0, 1, 2, 2, 1, 2, 1]])})["pred"]
        tensor([[0, 0, 1, 2, 2, 1, 1, 1]])
    """

    def change(self, volume: Tensor, held: Sequence[Sequence[int]]) -> Tensor:
        """Return the classes that are left.

        Args:
            volume: classes.
            held: the classes of every region.
        """
        classes, largest = volume.clone(), KeepLargestConnectedComponent(applied_labels=[0], is_onehot=True)
        for number, entry in enumerate(held, start=1):
            mask = region_masks(classes, [entry])
            around = max((outer for outer in range(1, number) if number in held[outer - 1]), default=0)
            classes[mask & ~torch.as_tensor(largest(mask.float())).bool()] = around
        return classes


class RegionMasksd(RegionTransform):
    """Replace classes by a mask of the background and one of every region, which overlap.

    Args:
        keys: maps of classes.
        label_names: names, background first.
        regions: see :func:`custom_networks.workflow.transforms.regions.region_values`; None leaves the maps as they
            are.

    Shape:
        ``(1, *S)`` to ``(1 + R, *S)``, float32.

    Raises:
        ValueError: if ``regions`` cannot be used.

    Example:
        >>> to_masks = RegionMasksd("label", ["background", "tumour", "core"], [[1, 2], [1]])
        >>> to_masks({"label": torch.tensor([[0, 1, 2]])})["label"]
        tensor([[1., 0., 0.],
                [0., 1., 1.],
                [0., 0., 1.]])
    """

    def change(self, volume: Tensor, held: Sequence[Sequence[int]]) -> Tensor:
        """Return the masks.

        Args:
            volume: classes.
            held: the classes of every region.
        """
        return region_masks(volume, [[0], *held]).float()
