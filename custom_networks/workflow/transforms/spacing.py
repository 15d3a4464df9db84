"""Resampling that survives MONAI Label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.transforms import Spacingd


class MonaiLabelSpacingd(Spacingd):
    """``Spacingd`` for dictionaries that also hold plain values named after an image.

    MONAI 1.6 updates every entry ``<key>_*`` as if it were a metadata dictionary, while MONAI Label puts the string
    ``image_path`` beside ``image``; with the stock transform every inference there fails. Entries that are not
    dictionaries are kept out of its sight and put back.

    Args: as for :class:`monai.transforms.Spacingd`; ``pixdim`` in mm.
    """

    def __call__(self, data: Mapping[Any, Any], lazy: bool | None = None) -> dict[Any, Any]:
        """Resample the images of one case.

        Args:
            data: the case.
            lazy: as for ``Spacingd``.
        """
        prefixes = tuple(f"{key}_" for key in self.keys)
        plain = {
            key: value
            for key, value in data.items()
            if isinstance(key, str) and key.startswith(prefixes) and not isinstance(value, dict)
        }
        return {**super().__call__({k: v for k, v in data.items() if k not in plain}, lazy), **plain}
