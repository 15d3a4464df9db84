"""metadata.json."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"


def metadata(
    bundle: Bundle,
    value_range: list[float],
    pred_format: dict[str, Any],
    pred_values: dict[str, Any],
    supported_apps: dict[str, str],
) -> dict[str, Any]:
    """Return metadata.json.

    Args:
        bundle: the specification.
        value_range: least and greatest value of the network's input.
        pred_format: type and format of the network's output.
        pred_values: its shape, kind and range.
        supported_apps: applications that can use the bundle.
    """
    knobs, own = bundle.knobs, dict(bundle.metadata)
    modality, value_format = own.pop("modality"), own.pop("image_format")
    channels = own.pop("channel_def")
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
        "supported_apps": supported_apps,
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
                    "spatial_shape": list(knobs["patch_size"]),
                    "dtype": "float32",
                    "is_patch_data": True,
                    "value_range": value_range,
                    "channel_def": {str(i): name for i, name in enumerate(channels)},
                }
            },
            "outputs": {
                "pred": {
                    **pred_format,
                    "modality": "n/a",
                    "num_channels": len(knobs["label_names"]),
                    **pred_values,
                    "channel_def": {str(i): name for i, name in enumerate(knobs["label_names"])},
                }
            },
        },
    }
