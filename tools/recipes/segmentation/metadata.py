"""metadata.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"


def metadata(bundle: Bundle) -> dict[str, Any]:
    """Return metadata.json.

    Args:
        bundle: the specification.
    """
    knobs, own = bundle.knobs, dict(bundle.metadata)
    modality, value_format = own.pop("modality"), own.pop("image_format")
    channels = own.pop("channel_def")
    tensor = {"spatial_shape": list(knobs["patch_size"]), "dtype": "float32", "is_patch_data": True}
    return {
        "schema": SCHEMA,
        "version": bundle.version,
        "changelog": dict(bundle.changelog),
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
        "supported_apps": {"monai-label": ""},
        "name": bundle.title,
        "description": bundle.summary,
        **own,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": value_format,
                    "modality": modality,
                    "num_channels": len(channels),
                    **tensor,
                    "value_range": [-100, 100],
                    "channel_def": {str(i): name for i, name in enumerate(channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "modality": "n/a",
                    "num_channels": len(knobs["label_names"]),
                    **tensor,
                    "value_range": [],
                    "channel_def": {str(i): name for i, name in enumerate(knobs["label_names"])},
                }
            },
        },
    }
