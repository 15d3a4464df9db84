"""metadata.json of the classification recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.metadata import SCHEMA, collect_words, number_channels, versions_of


def build_metadata(bundle: Bundle) -> dict[str, Any]:
    """Return metadata.json.

    Args:
        bundle: the specification.
    """
    image = bundle.metadata
    return {
        "schema": SCHEMA,
        "version": bundle.version,
        "changelog": dict(bundle.changelog),
        **versions_of(bundle),
        "supported_apps": {},
        **collect_words(bundle),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": image["image_format"],
                    "modality": image["modality"],
                    "num_channels": len(image["channel_def"]),
                    "spatial_shape": bundle.knobs["patch_size"],
                    "dtype": "float32",
                    "is_patch_data": True,
                    "value_range": [0, 1],
                    "channel_def": number_channels(image["channel_def"]),
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "modality": "n/a",
                    "num_channels": len(bundle.knobs["label_names"]),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "is_patch_data": True,
                    "value_range": [],
                    "channel_def": number_channels(bundle.knobs["label_names"]),
                }
            },
        },
    }
