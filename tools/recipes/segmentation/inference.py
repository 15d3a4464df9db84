"""inference.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.engine import inference_config
from tools.recipes.segmentation.shared import (
    CLASSES,
    inferer,
    largest_component,
    memory_bill,
    preprocessing,
    regions_to_classes,
    to_original_grid,
)
from tools.recipes.shared import ours

KNOBS = (
    "dataset_dir output_dir ckpt_dir in_channels label_names label_values regions spacing intensity patch_size amp "
    "seed num_workers mirror_axes largest_component low_memory max_shape expected_input device"
).split()


def inference(bundle: Bundle) -> dict[str, Any]:
    """Return inference.json.

    Args:
        bundle: the specification.
    """
    return inference_config(
        bundle,
        KNOBS,
        displayable={"result_extension": ".nii.gz"},
        preprocessing=[
            *preprocessing(["image"], ["image"]),
            ours("WarnLargeInputd", keys="image", max_shape="@max_shape", expected="@expected_input"),
        ],
        inferer=inferer(),
        postprocessing=[
            *to_original_grid("@preprocessing"),
            *regions_to_classes(),
            {
                "_target_": "AsDiscreted",
                "_disabled_": "$@low_memory or @regions is not None",
                "keys": "pred",
                "argmax": True,
            },
            largest_component(),
            ours("FileLabelsd", keys="pred", **CLASSES),
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "@output_dir",
                "output_ext": ".nii.gz",
                "output_dtype": ours("label_dtype", **CLASSES),
                "output_postfix": "seg",
                "separate_folder": False,
                "resample": False,
            },
        ],
        check=ours("check_data", in_channels="@in_channels", inference="@dataset#data"),
        bill=memory_bill(inference="@dataset#data"),
    )
