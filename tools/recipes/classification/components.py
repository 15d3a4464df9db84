"""What the configs of the classification recipe hold more than once."""

from __future__ import annotations

from typing import Any

from tools.recipes.shared import load_image, ours


def load_and_scale(**reader: Any) -> list[dict[str, Any]]:
    """Return the deterministic transforms: load, orient, resample, scale the intensities.

    Args:
        **reader: arguments of the reader of images.
    """
    return [
        load_image(**reader),
        {"_target_": "EnsureChannelFirstd", "keys": ["image"]},
        {"_target_": "Orientationd", "keys": ["image"], "axcodes": "RAS", "labels": None},
        ours("MonaiLabelSpacingd", keys=["image"], pixdim="@spacing", mode=["bilinear"]),
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": "$@intensity_range[0]",
            "a_max": "$@intensity_range[1]",
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
        },
    ]


PAD_OR_CROP = {"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": "@patch_size"}

PROBABILITIES = {"_target_": "Activationsd", "keys": "pred", "softmax": True}

MIRROR_INFERER = ours("MirrorInferer", mirror_axes="@tta_mirror_axes", amp="@amp")

PATCHES = {
    "in_channels": "@in_channels",
    "spacing": "@spacing",
    "patch_size": "@patch_size",
    "min_size": "$@network_def.min_size",
}
"""What ``check_patches`` holds the images against."""

REPORT = ours("ClassificationReport", output_dir="@output_dir", label_names="@label_names")

OUT_CHANNELS = "$len(@label_names)"
"""The outputs of the network."""
