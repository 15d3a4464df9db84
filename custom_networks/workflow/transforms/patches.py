"""The patch that a training step sees: where in a case it lies, and how it is turned, scaled and flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, RandAffineGrid, Randomizable
from torch import Tensor

from custom_networks.workflow.transforms.affine_sampling import sample_affine
from custom_networks.workflow.transforms.class_indices import POSTFIX

THICK = 3
"""How many times as long as along another axis a voxel may be for a turn from the one to the other: as in nnU-Net."""


def _planes(spacing: tuple[float, ...]) -> list[tuple[float, float]]:
    """Return the sides of a voxel in the plane of each turn: around the first axis, the second and the third."""
    return list(combinations(spacing, 2))[::-1]


class RandPatchd(Randomizable, MapTransform):
    r"""Draw a patch around a voxel of a class, and turn, scale and flip it, in one look at the case.

    A share ``foreground_ratio`` of the patches lies around the foreground, each class that the case has equally often,
    the others around the background, none around a voxel without a label, unless no voxel has one. As by MONAI's
    ``SpatialPadd``, ``RandCropByLabelClassesd``, ``RandAffined`` and ``RandFlipd`` one after the other, with two
    differences: what a turned patch shows beyond the corners of the upright one is what the case shows there, where
    they have zeros; and only what the patch needs is read, so that its cost does not depend on the size of the case.
    Beyond the case lie zeros. The case is not changed.

    Turns are those of the body and not of the grid: with the matrix :math:`A` that is drawn and the sides :math:`s` of
    a voxel in mm, voxel :math:`i` of the patch, counted from its centre, shows the place :math:`j`, counted alike, with

    .. math:: j = \mathrm{diag}(s)^{-1} A\,\mathrm{diag}(s)\, i

    Where a voxel is more than three times as long along one axis as along another, nothing is turned from the one to
    the other, and nothing is scaled along the longer: between thick slices there is nothing to interpolate.

    Args:
        keys: images and the label; the label takes the nearest voxel, the others interpolate linearly.
        label_key: key of the label, for whose places see
            :class:`custom_networks.workflow.transforms.class_indices.ClassIndicesd`; they leave the case.
        spatial_size: voxels of the patch; a smaller case is padded with zeros on both sides.
        foreground_ratio: share of the patches around the foreground, 0 to 1.
        prob: share of the patches that are turned and scaled.
        rotate_range: largest angle around each axis, in radians.
        scale_range: largest change of the scale along each axis; 0.2 is 0.8 to 1.2.
        mirror_axes: spatial axes along each of which half of the patches are flipped.
        spacing: sides of a voxel in mm; with ``None`` they are equal.

    Raises:
        ValueError: if ``spacing`` has not one positive entry for each axis.

    Shape:
        ``(C, *S)`` to ``(C, *spatial_size)``, float32.

    Example:
        >>> case = {"image": torch.arange(5.0)[None, None], "label": torch.tensor([[[0, 0, 0, 1, 0]]])}
        >>> case["label_indices"] = [torch.tensor([0, 1, 2, 4]), torch.tensor([3])]
        >>> RandPatchd(["image", "label"], "label", (1, 3), foreground_ratio=1, prob=0)(case)
        {'image': tensor([[[2., 3., 4.]]]), 'label': tensor([[[0., 1., 0.]]])}
    """

    def __init__(
        self,
        keys: Sequence[str],
        label_key: str,
        spatial_size: Sequence[int],
        foreground_ratio: float = 0.5,
        prob: float = 0.6,
        rotate_range: Sequence[float] = (0.3, 0.3, 0.3),
        scale_range: Sequence[float] = (0.2, 0.2, 0.2),
        mirror_axes: Sequence[int] = (),
        spacing: Sequence[float] | None = None,
    ) -> None:
        super().__init__(keys)
        self.label_key = label_key
        self.spatial_size = tuple(int(n) for n in spatial_size)
        self.foreground_ratio = foreground_ratio
        self.prob = prob
        self.spacing = tuple(float(side) for side in spacing or (1.0,) * len(self.spatial_size))
        if len(self.spacing) != len(self.spatial_size) or min(self.spacing) <= 0:
            raise ValueError(f"spacing must have one positive entry for each of the axes, got {spacing}; give mm")
        self.affine_grid = RandAffineGrid(
            rotate_range=[
                angle * (max(sides) <= THICK * min(sides))
                for angle, sides in zip(rotate_range, _planes(self.spacing), strict=False)
            ],
            scale_range=[
                change * (side <= THICK * min(self.spacing))
                for change, side in zip(scale_range, self.spacing, strict=False)
            ],
            lazy=True,
        )
        self.mirror_axes = tuple(mirror_axes)
        self.start: tuple[int, ...] = ()
        self.affine: Tensor | None = None
        self.flipped: list[int] = []

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandPatchd:
        """Seed the choice of patches; one stream serves place, turn and scale.

        Args:
            seed: of a new stream.
            state: a stream to go on with.
        """
        super().set_random_state(seed, state)
        self.affine_grid.set_random_state(state=self.R)
        return self

    def randomize(self, data: tuple[Sequence[int], Sequence[Tensor]]) -> None:
        """Draw the next patch.

        Args:
            data: the shape of the case, and the places of its classes.
        """
        shape, indices = data
        centre = np.unravel_index(self._draw_place(int(np.prod(shape)), indices), shape)
        self.start = tuple(
            min(max(int(middle) - size // 2, 0), n - size) if n >= size else -((size - n) // 2)
            for middle, size, n in zip(centre, self.spatial_size, shape, strict=True)
        )
        self.affine = None
        if self.R.rand() < self.prob:
            self.affine_grid(self.spatial_size)
            self.affine = self.affine_grid.get_transformation_matrix()
        self.flipped = [axis for axis in self.mirror_axes if self.R.rand() < 0.5]

    def _draw_place(self, voxels: int, indices: Sequence[Tensor]) -> int:
        """Return the centre of the next patch, as a place on one axis."""
        background, *classes = indices
        present = [places for places in classes if len(places) > 0]
        wanted = self.R.rand() < self.foreground_ratio
        if present and (wanted or len(background) == 0):
            places = present[self.R.randint(len(present))]
        elif len(background) > 0:
            places = background
        else:
            return int(self.R.randint(voxels))
        return int(places[self.R.randint(len(places))])

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the patch of a case.

        Args:
            data: the case.
        """
        case = dict(data)
        self.randomize((case[self.label_key].shape[1:], case.pop(f"{self.label_key}{POSTFIX}")))
        keys = list(self.key_iterator(case))
        volumes = [torch.as_tensor(case[key]).as_subclass(Tensor) for key in keys]
        if self.affine is None:
            patches = [self._cut(volume) for volume in volumes]
        else:
            nearest = [key == self.label_key for key in keys]
            patches = sample_affine(volumes, nearest, self._to_volume(self.affine), self.spatial_size)
        return {**case, **dict(zip(keys, patches, strict=True))}

    def _to_volume(self, affine: Tensor) -> Tensor:
        """Return the map from voxels of the patch to those of the case: flips, then the affine map about its centre."""
        dims = len(self.spatial_size)
        centre = (torch.tensor(self.spatial_size, dtype=torch.float64) - 1) / 2
        sides = torch.tensor(self.spacing, dtype=torch.float64)
        linear = affine[:dims, :dims].double() * (sides[None, :] / sides[:, None])
        shift = linear @ -centre + affine[:dims, -1].double() + centre + torch.tensor(self.start)
        for axis in self.flipped:
            shift = shift + linear[:, axis] * (self.spatial_size[axis] - 1)
            linear[:, axis] *= -1
        return torch.cat([linear, shift[:, None]], 1)

    def _cut(self, volume: Tensor) -> Tensor:
        """Return a copy of the upright patch."""
        shape, stops = volume.shape[1:], [a + n for a, n in zip(self.start, self.spatial_size, strict=True)]
        held = [slice(max(a, 0), min(b, n)) for a, b, n in zip(self.start, stops, shape, strict=True)]
        patch = torch.zeros((len(volume), *self.spatial_size))
        into = [slice(part.start - a, part.stop - a) for part, a in zip(held, self.start, strict=True)]
        patch[(slice(None), *into)] = volume[(slice(None), *held)].float()
        return patch.flip([axis + 1 for axis in self.flipped]) if self.flipped else patch
