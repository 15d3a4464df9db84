"""The parts that training and inference of the segmentation recipe share."""

from __future__ import annotations

from typing import Any

from tools.recipes.shared import OUT_CHANNELS, geometry, loading, ours

CLASSES = {"label_names": "@label_names", "label_values": "@label_values", "regions": "@regions"}
"""What the components take that know the classes of a data set and their values."""
REGIONS = {"label_names": "@label_names", "regions": "@regions"}
"""What the components take that know the regions of a data set; they do nothing where there are none."""


def preprocessing(loaded: list[str], resampled: list[str]) -> list[dict[str, Any]]:
    """Return the deterministic transforms: load, name the classes, orient, resample, normalise.

    Args:
        loaded: the keys to read.
        resampled: those of them that are brought to the network's orientation and spacing.
    """
    classes = [ours("ClassLabelsd", keys="label", **CLASSES)] if "label" in loaded else []
    normalise = ours("NormalizeChannelsd", keys="image", schemes="@intensity")
    # the grid of positions takes three numbers per voxel, the most of all where an image is resampled
    precision = "$torch.float32 if @low_memory else torch.float64"
    return [*loading(loaded), *classes, *geometry(resampled, dtype=precision), normalise]


def inferer() -> dict[str, Any]:
    """Return the inferer of validation and inference."""
    return ours(
        "MirrorSlidingWindowInferer",
        roi_size="@patch_size",
        mirror_axes="@mirror_axes",
        amp="@amp",
        low_memory="@low_memory",
        regions="@regions",
        sw_batch_size=1,
        overlap=0.5,
        mode="gaussian",
    )


def to_original_grid(preprocessing: str) -> list[dict[str, Any]]:
    """Return the postprocessing from logits to probabilities, of classes or of regions, on the grid of the image file.

    With ``low_memory`` the inferer has returned classes already, which are brought there by their nearest neighbours.

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
    ]


def regions_to_classes() -> list[dict[str, Any]]:
    """Return the postprocessing from probabilities of regions to classes, which does nothing without regions."""
    return [
        {**ours("RegionClassesd", keys="pred", **REGIONS), "_disabled_": "@low_memory"},
        {**ours("LargestRegionsd", keys="pred", **REGIONS), "_disabled_": "$not @largest_component"},
    ]


def largest_component(**arguments: Any) -> dict[str, Any]:
    """Return the transform that keeps the largest connected component of each class, off by default.

    Regions have one of their own, :func:`regions_to_classes`.

    Args:
        **arguments: further arguments of the transform.
    """
    return {
        "_target_": "KeepLargestConnectedComponentd",
        "_disabled_": "$not @largest_component or @regions is not None",
        "keys": "pred",
        "applied_labels": "$list(range(1, len(@label_names)))",
        **arguments,
    }


def memory_bill(**cases: Any) -> list[dict[str, Any]]:
    """Return the component that logs the expected peak of memory.

    Args:
        **cases: "training", "validation" or "inference", and what only a training has.
    """
    return [
        ours(
            "report_memory",
            network="@network",
            device="@device",
            in_channels="@in_channels",
            out_channels=OUT_CHANNELS["segmentation"],
            spacing="@spacing",
            patch_size="@patch_size",
            amp="@amp",
            low_memory="@low_memory",
            **cases,
        )
    ]
