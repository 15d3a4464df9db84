"""The parts of metadata.json that no recipe decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.recipes.bundle import Bundle

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"

VERSIONS: dict[str, Any] = {
    "monai_version": "1.6.1",
    "pytorch_version": "2.13.0",
    "numpy_version": "2.4.6",
    "required_packages_version": {
        "nibabel": "5.4.2",
        "pytorch-ignite": "0.5.5",
        "scipy": "1.17.1",
        "scikit-image": "0.26.0",
        "pynrrd": "1.1.3",
        "tqdm": "4.70.1",
        "tensorboard": "2.21.0",
    },
}

DATA_FORMAT = ("modality", "image_format", "channel_def")
"""Keys of a specification's metadata that describe the image in ``network_data_format``."""


OF_HEADS = {"SimpleITK": "2.5.7"}
"""What a bundle that segments heads needs beside them."""


def versions_of(bundle: Bundle) -> dict[str, Any]:
    """Return the versions that a bundle was made with.

    Args:
        bundle: the specification.
    """
    needed = VERSIONS["required_packages_version"] | (OF_HEADS if bundle.places else {})
    return {**VERSIONS, "required_packages_version": needed}


def collect_words(bundle: Bundle) -> dict[str, Any]:
    """Return what a bundle says about itself in words, in the order of metadata.json.

    Args:
        bundle: the specification.
    """
    words = {key: value for key, value in bundle.metadata.items() if key not in DATA_FORMAT}
    return {"name": bundle.title, "description": bundle.summary, **words}


def number_channels(names: Sequence[str]) -> dict[str, str]:
    """Return the names of channels by their numbers, as the schema wants them.

    Args:
        names: of the channels, in their order.

    Example:
        >>> number_channels(["T1", "T2"])
        {'0': 'T1', '1': 'T2'}
    """
    return {str(number): name for number, name in enumerate(names)}
