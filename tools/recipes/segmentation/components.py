"""What the configs of the segmentation recipe hold more than once."""

from __future__ import annotations

from typing import Any

from tools.recipes.shared import load_image, ours

OUT_CHANNELS = "$len(@regions or @label_names)"
"""The outputs of the network: regions come without background."""

CLASSES = {"label_names": "@label_names", "label_values": "@label_values", "regions": "@regions"}
"""What the components take that know the classes of a data set and their values."""

REGIONS = {"label_names": "@label_names", "regions": "@regions"}
"""What the components take that know the regions of a data set; they do nothing where there are none."""

IGNORE = {"ignore_value": "@ignore_value"}
"""What the components take beside them that know voxels without a label."""

CACHE_RATE = "$0.0 if @cache_dir else @cache_rate"
"""The share of the cases that stays in the memory."""

MEMORY = {
    "network": "@network",
    "device": "@device",
    "in_channels": "@in_channels",
    "out_channels": OUT_CHANNELS,
    "spacing": "@spacing",
    "patch_size": "@patch_size",
    "amp": "@amp",
    "low_memory": "@low_memory",
    "sw_batch_size": "@windows_at_once",
}
"""What ``report_memory`` takes to reckon the expected peak, beside the cases."""

WINDOWS_AT_ONCE = ours(
    "windows_that_fit",
    sw_batch_size="@sw_batch_size",
    network="@network",
    device="@device",
    in_channels="@in_channels",
    patch_size="@patch_size",
    amp="@amp",
)
"""The number of windows per forward pass, which only ``null`` makes depend on the memory."""

SLIDING_WINDOW = ours(
    "MirrorSlidingWindowInferer",
    roi_size="@patch_size",
    mirror_axes="@tta_mirror_axes",
    amp="@amp",
    low_memory="@low_memory",
    regions="@regions",
    sw_batch_size="@windows_at_once",
    overlap="@overlap",
    mode="gaussian",
    skip_air="@skip_air",
)

LOAD_LABEL = {"_target_": "LoadImaged", "keys": "label", "reader": ours("VolumeReader", labels=True), "dtype": None}
"""Reads label values as integers; as floats, those above 2^24 would merge."""

LARGEST_COMPONENT = {
    "_target_": "KeepLargestConnectedComponentd",
    "_disabled_": "$not @largest_component or @regions is not None",
    "keys": "pred",
    "applied_labels": ours(
        "largest_component_labels", largest_component="@largest_component", label_names="@label_names"
    ),
}
"""Keeps the largest connected component of the chosen classes; regions have ``LargestRegionsd``."""


def load_and_normalize(loaded: list[str], resampled: list[str], **reader: Any) -> list[dict[str, Any]]:
    """Return the deterministic transforms: load, name the classes, orient, resample, normalise.

    Args:
        loaded: the keys to read.
        resampled: those of them that are brought to the network's orientation and spacing.
        **reader: arguments of the reader of images.
    """
    return [
        load_image(**reader),
        *([LOAD_LABEL] if "label" in loaded else []),
        {"_target_": "EnsureChannelFirstd", "keys": loaded},
        *([ours("ClassLabelsd", keys="label", **CLASSES, **IGNORE)] if "label" in loaded else []),
        {"_target_": "Orientationd", "keys": resampled, "axcodes": "RAS", "labels": None},
        ours(
            "MonaiLabelSpacingd",
            keys=resampled,
            pixdim="@spacing",
            mode=[{"image": "bilinear", "label": "nearest"}[key] for key in resampled],
            # the grid of positions takes three numbers per voxel, the most of all where an image is resampled
            dtype="$torch.float32 if @low_memory else torch.float64",
        ),
        ours("NormalizeChannelsd", keys="image", schemes="@intensity"),
    ]


def bring_to_original_grid(preprocessing: str) -> list[dict[str, Any]]:
    """Return the postprocessing from logits to probabilities of classes on the grid of the image file.

    Where there are regions, the classes are made of their probabilities, largest components chosen by region. With
    ``low_memory`` the inferer has returned classes already, which are brought there by their nearest neighbours.

    Args:
        preprocessing: reference to the transform to invert.
    """
    return [
        {
            "_target_": "Activationsd",
            "_disabled_": "@low_memory",
            "keys": "pred",
            "softmax": "$@regions is None",
            "sigmoid": "$@regions is not None",
        },
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": preprocessing,
            "orig_keys": "image",
            "nearest_interp": "@low_memory",
            "to_tensor": True,
        },
        ours("RegionClassesd", keys="pred", **REGIONS, _disabled_="@low_memory"),
        ours("LargestRegionsd", keys="pred", **REGIONS, _disabled_="$not @largest_component"),
    ]
