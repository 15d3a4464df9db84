"""inference_head.json of the segmentation recipe: from a whole head to the structures of every place in it."""

from __future__ import annotations

from typing import Any

from tools.recipes import shared
from tools.recipes.bundle import Bundle
from tools.recipes.knobs import select_knobs
from tools.recipes.segmentation.components import OUT_CHANNELS, WINDOWS_AT_ONCE
from tools.recipes.shared import ours

LOCATE = ours(
    "LocateRegions",
    template="@template",
    regions="@places",
    crop_size="@crop_size",
    spacing="@spacing",
    start_points="@start_points",
)
CROP_INFERER = ours(
    "MirrorSlidingWindowInferer",
    roi_size="@patch_size",
    mirror_axes="@tta_mirror_axes",
    amp="@amp",
    sw_batch_size="@windows_at_once",
    overlap="@overlap",
    mode="gaussian",
)
LARGEST_COMPONENT = {
    "_target_": "KeepLargestConnectedComponentd",
    "_disabled_": "$not @largest_component",
    "keys": "pred",
    "applied_labels": ours(
        "largest_component_labels",
        largest_component="@largest_component",
        label_names="@label_names",
        places="$len(@places)",
    ),
}


def build_inference_head(bundle: Bundle) -> dict[str, Any]:
    """Return inference_head.json, complete in itself because MONAI Label reads no other file.

    Args:
        bundle: the specification, with places.
    """
    knobs = {
        "bundle_root": ".",
        **select_knobs(
            bundle,
            "dataset_dir output_dir ckpt_dir in_channels label_names regions spacing intensity places crop_size "
            "start_points template patch_size amp seed num_workers mirror_axes tta_mirror_axes overlap sw_batch_size "
            "largest_component series device engine",
        ),
        "ckpt_path": "$@ckpt_dir + '/model.pt'",
        "load_pretrain": True,
        "displayable_configs": {"result_extension": ".nii.gz"},
    }
    return {
        "imports": shared.IMPORTS,
        **knobs,
        "code_path": shared.CODE_PATH,
        "network_def": {**shared.define_network(bundle, OUT_CHANNELS), "deep_supervision": False},
        "network": shared.ENGINE_NETWORK,
        "windows_at_once": WINDOWS_AT_ONCE,
        "head_label_names": ours("head_label_names", places="@places", label_names="@label_names"),
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                shared.load_image(series="@series"),
                {"_target_": "EnsureChannelFirstd", "keys": ["image"]},
                {"_target_": "Orientationd", "keys": ["image"], "axcodes": "RAS", "labels": None},
            ],
        },
        "dataset": shared.INFERENCE_DATASET,
        "dataloader": shared.load_one_by_one("@dataset"),
        "locate": LOCATE,
        "crop_inferer": CROP_INFERER,
        "inferer": ours(
            "RegionsInferer", locate="@locate", inferer="@crop_inferer", intensity="@intensity", regions="@regions"
        ),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": True,
                    "to_tensor": True,
                },
                LARGEST_COMPONENT,
                ours(
                    "SaveMasksd",
                    keys="pred",
                    output_dir="@output_dir",
                    output_dtype=ours("label_dtype", label_names="@head_label_names"),
                ),
            ],
        },
        "evaluator": shared.INFERENCE_EVALUATOR,
        "knob_check": shared.check_knobs(knobs),
        "initialize": shared.INITIALIZE_INFERENCE,
        "run": [
            ours("check_outputs", output_dir="@output_dir"),
            ours("check_masks", output_dir="@output_dir", inference="@dataset#data"),
            ours("check_data", in_channels="@in_channels", inference="@dataset#data", series="@series"),
            ours(
                "report_head_memory",
                network="@network",
                device="@device",
                in_channels="@in_channels",
                out_channels=OUT_CHANNELS,
                spacing="@spacing",
                crop_size="@crop_size",
                patch_size="@patch_size",
                amp="@amp",
                sw_batch_size="@windows_at_once",
                inference="@dataset#data",
                series="@series",
            ),
            "$@evaluator.run()",
        ],
    }
