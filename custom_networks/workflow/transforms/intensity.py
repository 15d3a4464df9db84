"""Normalisation of intensities channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.transforms import MapTransform, NormalizeIntensity
from monai.utils import convert_to_tensor
from torch import Tensor

Z_SCORE, Z_SCORE_NONZERO = "z_score", "z_score_nonzero"
ENTRIES = {"clip", "mean", "std"}


class NormalizeChannelsd(MapTransform):
    r"""Bring every channel to about zero mean and unit variance.

    ``"z_score"`` takes mean and standard deviation of the volume itself, as suits MR, whose intensities have no unit;
    ``"z_score_nonzero"`` those of its voxels that are not zero, and leaves zeros as they are, as suits an image whose
    surroundings were set to zero, such as a brain without its skull;
    ``{"clip": [low, high], "mean": m, "std": s}`` takes those of the data set, as suits CT:
    :math:`(\min(\max(x, \mathrm{low}), \mathrm{high}) - m) / s`.

    Args:
        keys: images.
        schemes: one scheme per channel; "z_score" for every channel if None.

    Shape:
        ``(C, *S)`` to ``(C, *S)``, float32.

    Raises:
        ValueError: if a scheme is neither, or, when called, if there are not as many schemes as channels.

    Example:
        >>> import torch
        >>> scale = NormalizeChannelsd("image", [{"clip": [-100, 100], "mean": 0, "std": 50}])
        >>> scale({"image": torch.tensor([[-500.0, 25.0]])})["image"]
        metatensor([[-2.0000,  0.5000]])
    """

    def __init__(self, keys: Sequence[str] | str, schemes: Sequence[str | Mapping[str, Any]] | None = None) -> None:
        super().__init__(keys)
        for scheme in schemes or ():
            right = set(scheme) == ENTRIES if isinstance(scheme, Mapping) else scheme in (Z_SCORE, Z_SCORE_NONZERO)
            if not right or (isinstance(scheme, Mapping) and not float(scheme["std"]) > 0):
                raise ValueError(
                    f'intensity holds {scheme!r}; give "{Z_SCORE}", "{Z_SCORE_NONZERO}" or {{"clip": [low, high], '
                    '"mean": m, "std": s} with a positive std per channel'
                )
        self.schemes = schemes
        self.z_scores = {
            Z_SCORE: NormalizeIntensity(channel_wise=True),
            Z_SCORE_NONZERO: NormalizeIntensity(nonzero=True, channel_wise=True),
        }

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case with normalised images.

        Args:
            data: the case.
        """
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = self._normalised(case[key], key)
        return case

    def _normalised(self, image: Tensor, key: str) -> Tensor:
        if self.schemes is None:
            return self.z_scores[Z_SCORE](image)
        if len(self.schemes) != len(image):
            raise ValueError(
                f"intensity has {len(self.schemes)} entries, but the {key} {len(image)} channels; give one per channel"
            )
        image = convert_to_tensor(image, track_meta=True).float().clone()
        for number, scheme in enumerate(self.schemes):
            if isinstance(scheme, Mapping):
                low, high = scheme["clip"]
                image[number] = (image[number].clamp(low, high) - scheme["mean"]) / scheme["std"]
            else:
                image[number] = self.z_scores[scheme](image[number : number + 1])[0]
        return image
