"""From a whole head to one label map: every region is segmented as a crop, and pasted on the head's own grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from scipy import ndimage
from torch import Tensor

from custom_networks.workflow.locate.plausible import say_masks
from custom_networks.workflow.transforms.intensity import NormalizeChannelsd
from custom_networks.workflow.transforms.regions import Regions

if TYPE_CHECKING:
    from custom_networks.workflow.locate.regions import Crop, Located, LocateRegions

logger = logging.getLogger(__name__)

MOVES = 2
"""How often at most a crop is moved after a structure that its border cuts."""
NOTES = "notes"
SIDES_UNKNOWN = ("left and right", "left, posterior, superior")
"""Words in the notes of a header that does not say where left is."""


class Part(NamedTuple):
    """What the network says about one region.

    Args:
        crop: where it was looked for at last.
        probabilities: ``(K, *crop.shape)``, float32, background first.
        cut: whether the border of the crop still cuts what was found.
    """

    crop: Crop
    probabilities: np.ndarray
    cut: bool


class Found(NamedTuple):
    """What was found in a head, beside its label map.

    Args:
        located: what the registration says.
        crops: where each region was looked for at last.
        problems: what must be said, one sentence each.
    """

    located: Located
    crops: list[Crop]
    problems: list[str]


class RegionsInferer(Inferer):
    r"""Locate regions in a whole head, segment the crop around each, and bring the classes back to the head's grid.

    A crop is sampled from the head by trilinear interpolation, in its own axes, and normalised by itself, as the
    training cases were. The network's probabilities :math:`p` go back the same way: with the affine :math:`C` of the
    crop and :math:`H` of the head, voxel :math:`i` of the head gets :math:`p(C^{-1} H i)`, and then the class of the
    largest probability, the background where none is larger. A mirrored region is a crop whose first axis runs the
    other way, so that nothing is flipped. Where two crops overlap, the larger probability of a structure counts.

    ::

        head (1, C, X, Y, Z) -> locate -> crops (C, x, y, z) -> inferer, softmax (K, x, y, z)
             ^                               | a structure at the border moves its crop, at most twice
             +--- label map (1, 1, X, Y, Z) <- probabilities inside the box of each crop

    What was found is in :attr:`found` until the next call; what must be said is logged as a warning.

    Args:
        locate: finds the regions.
        inferer: gives the logits ``(1, K, *S)`` of a crop ``(1, C, *S)``, such as the inferer of ``inference.json``.
        intensity: the knob of that name.
        regions: the knob of that name, which must be None.

    Shape:
        ``(1, C, X, Y, Z)``, voxels as in the file along axes of about RAS, to ``(1, 1, X, Y, Z)``, uint8.

    Raises:
        ValueError: if there are regions, or, when called, several heads at once, or nothing can be located.

    Cost:
        The registration, and up to three passes of the network per region. Beside the head only arrays of the size of
        the crops' boxes, two bytes per voxel and one more for each region, and what ``locate`` takes.
    """

    def __init__(
        self,
        locate: LocateRegions,
        inferer: Callable[..., Any],
        intensity: Sequence[Any] | None = None,
        regions: Regions = None,
    ) -> None:
        super().__init__()
        if regions is not None:
            raise ValueError(
                "regions overlap, which the mask of a head cannot hold; give crops, or classes that exclude each other"
            )
        self.locate, self.inferer = locate, inferer
        self.normalise = NormalizeChannelsd("image", intensity)
        self.found: Found | None = None
        self.pointed: Any = None

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return the label map ``(1, 1, X, Y, Z)``: region after region the classes of the network.

        Args:
            inputs: ``(1, C, X, Y, Z)`` with its affine.
            network: segments a crop.
            *args: passed to the inferer.
            **kwargs: passed to the inferer.
        """
        self.found = None
        if len(inputs) != 1:
            raise ValueError(f"one head is segmented at a time, got {len(inputs)}; set the batch size to 1")
        image = inputs[0]
        self._check_pointed(image)
        voxels = torch.as_tensor(image).detach().cpu().numpy()
        affine = np.asarray(torch.as_tensor(image.affine).cpu(), float) if isinstance(image, MetaTensor) else np.eye(4)

        def run(crop: np.ndarray) -> np.ndarray:
            prepared = self.normalise({"image": torch.from_numpy(crop)})["image"]
            logits = self.inferer(torch.as_tensor(prepared)[None].to(inputs.device), network, *args, **kwargs)
            return torch.as_tensor(logits)[0].float().softmax(0).cpu().numpy()

        located = self.locate(voxels[0], affine, orientation_known=_sides_known(image))
        parts = [self._segment(voxels, affine, crop, run) for crop in located.crops]
        labels = paste(parts, affine, voxels.shape[1:])
        problems = [
            *located.problems,
            *(_cut(part) for part in parts if part.cut),
            *say_masks(_sides(parts, labels), affine, located),
        ]
        self.found = Found(located, [part.crop for part in parts], problems)
        file = _file_of(image)
        for problem in self.found.problems:
            logger.warning("%s%s", "" if file is None else f"{file}: ", problem)
        result = torch.from_numpy(labels)[None, None].to(inputs.device)
        return MetaTensor(result).copy_meta_from(inputs, copy_attr=False) if isinstance(inputs, MetaTensor) else result

    def _check_pointed(self, image: Tensor) -> None:
        """Refuse a second image where points are given by hand, which are those of one."""
        if getattr(self.locate, "start_points", None) is None:
            return
        file = _file_of(image)
        if self.pointed is not None and self.pointed != file:
            raise ValueError(
                f"start_points are those of one image, {self.pointed}, but {file} is given, too; give one image at a "
                "time"
            )
        self.pointed = file

    def _segment(
        self, voxels: np.ndarray, affine: np.ndarray, crop: Crop, run: Callable[[np.ndarray], np.ndarray]
    ) -> Part:
        """Segment a region, whose crop follows a structure that its border cuts."""
        for left in reversed(range(MOVES + 1)):
            probabilities = run(sample(voxels, affine, crop))
            offset = border_offset(probabilities)
            if offset is None or not left or not any(offset):
                break
            crop = self.locate.move(crop, np.multiply(offset, np.linalg.norm(crop.affine[:3, :3], axis=0)))
        return Part(crop, probabilities, cut=offset is not None)


def _cut(part: Part) -> str:
    """Return what is to be said of a part whose crop cuts what was found."""
    return (
        f"the {part.crop.region.name} crop cuts what was found in it, also after it was moved, so that its volume is "
        "that of a part; look at the mask, or give the place by start_points"
    )


def _sides(parts: Sequence[Part], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the mask of each region by its name."""
    masks, behind = {}, 0
    for part in parts:
        classes = len(part.probabilities) - 1
        masks[part.crop.region.name] = (labels > behind) & (labels <= behind + classes)
        behind += classes
    return masks


def _file_of(image: Tensor) -> Any:
    return getattr(image, "meta", {}).get("filename_or_obj")


def _sides_known(image: Tensor) -> bool:
    notes = getattr(image, "meta", {}).get(NOTES) or ()  # MONAI makes None of none in a batch
    return not any(words in str(note) for note in notes for words in SIDES_UNKNOWN)


def sample(voxels: np.ndarray, affine: np.ndarray, crop: Crop) -> np.ndarray:
    """Return a crop of an image by trilinear interpolation; beyond the border the nearest voxel goes on.

    Args:
        voxels: ``(C, X, Y, Z)``, float32.
        affine: its voxels to mm.
        crop: where.

    Shape:
        ``(C, *crop.shape)``.
    """
    way = np.linalg.solve(affine, crop.affine)
    taken = np.empty((len(voxels), *crop.shape), np.float32)
    for channel, out in zip(voxels, taken, strict=True):
        ndimage.affine_transform(channel, way[:3, :3], way[:3, 3], crop.shape, out, order=1, mode="nearest")
    return taken


def border_offset(probabilities: np.ndarray) -> list[int] | None:
    """Return by how many voxels a crop should be moved along its axes, None where its border cuts nothing.

    The largest connected piece is looked at: what else there is, is no structure to follow. Along an axis that both
    ends cut there is nowhere to go.

    Args:
        probabilities: ``(K, *S)``, background first.

    Example:
        >>> found = np.zeros((2, 9, 9, 9))
        >>> found[1, 0:3, 4, 4] = 1
        >>> border_offset(found)
        [-3, 0, 0]
    """
    pieces, count = ndimage.label(probabilities.argmax(0) > 0, np.ones((3, 3, 3)))
    if not count:
        return None
    largest = int(np.bincount(pieces.ravel())[1:].argmax())
    ends = [(box.start, box.stop - 1, size - 1) for box, size in zip(_box(pieces, largest), pieces.shape, strict=True)]
    if all(low > 0 and high < last for low, high, last in ends):
        return None
    offset = []
    for low, high, last in ends:
        wanted = round((low + high - last) / 2) or (-1 if low == 0 else 1)
        offset.append(wanted if (low == 0) != (high == last) else 0)
    return offset


def _box(pieces: np.ndarray, number: int) -> tuple[slice, ...]:
    box: tuple[slice, ...] = ndimage.find_objects(pieces)[number]
    return box


def paste(parts: Sequence[Part], affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the label map of a head: the classes of the first part, then those of the second, and so on.

    Args:
        parts: what the network says, background first.
        affine: voxels of the head to mm.
        shape: its voxels.

    Shape:
        ``(*shape)``, uint8.
    """
    labels = np.zeros(tuple(shape), np.uint8)
    boxes = [_box_of(part.crop, affine, shape) for part in parts]
    if not boxes:
        return labels
    around = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
    best = np.zeros([s.stop - s.start for s in around], np.float32)
    behind = 0
    for part, box in zip(parts, boxes, strict=True):
        way = np.linalg.solve(part.crop.affine, affine)
        start = [s.start for s in box]
        size = tuple(s.stop - s.start for s in box)
        inside = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, around, strict=True))
        target, seen = labels[box], best[inside]
        of_background = np.empty(size, np.float32)
        for number, one in enumerate(part.probabilities):
            here = np.empty(size, np.float32) if number else of_background
            ndimage.affine_transform(
                one, way[:3, :3], way[:3, :3] @ start + way[:3, 3], size, here, order=1, cval=0.0 if number else 1.0
            )
            if number:
                wins = (here > of_background) & (here > seen)
                target[wins], seen[wins] = behind + number, here[wins]
        behind += len(part.probabilities) - 1
    return labels


def _box_of(crop: Crop, affine: np.ndarray, shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the voxels of a head that a crop may reach."""
    corners = np.array(list(product(*((0, size - 1) for size in crop.shape))), float)
    way = np.linalg.solve(affine, crop.affine)
    reached = corners @ way[:3, :3].T + way[:3, 3]
    low = np.floor(reached.min(0)).clip(0, shape).astype(int)
    high = np.ceil(reached.max(0) + 1).clip(low, shape).astype(int)
    return tuple(slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
