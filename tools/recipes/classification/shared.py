"""The parts that training and inference of the classification recipe share."""

from __future__ import annotations

from typing import Any

from tools.recipes.shared import geometry, loading, ours


def preprocessing() -> list[dict[str, Any]]:
    """Return the deterministic transforms: load, orient, resample, scale the intensities, pad or crop to the patch."""
    return [
        *loading(["image"]),
        *geometry(["image"]),
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": "$@intensity_range[0]",
            "a_max": "$@intensity_range[1]",
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
        },
        {"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": "@patch_size"},
    ]


def inferer() -> dict[str, Any]:
    """Return the inferer of validation and inference."""
    return ours("MirrorInferer", mirror_axes="@mirror_axes", amp="@amp")


def to_probabilities() -> dict[str, Any]:
    """Return the transform from logits to probabilities."""
    return {"_target_": "Activationsd", "keys": "pred", "softmax": True}


def check(**cases: str) -> dict[str, Any]:
    """Return the component that looks at the patches before anything starts.

    Args:
        **cases: references to the data lists.
    """
    return ours(
        "check_patches",
        in_channels="@in_channels",
        spacing="@spacing",
        patch_size="@patch_size",
        min_size="$@network_def.min_size",
        **cases,
    )
