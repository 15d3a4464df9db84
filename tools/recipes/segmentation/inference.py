"""inference.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes import shared
from tools.recipes.bundle import Bundle
from tools.recipes.knobs import select_knobs
from tools.recipes.segmentation.components import (
    CLASSES,
    LARGEST_COMPONENT,
    MEMORY,
    OUT_CHANNELS,
    SLIDING_WINDOW,
    WINDOWS_AT_ONCE,
    bring_to_original_grid,
    load_and_normalize,
)
from tools.recipes.shared import ours


def build_inference(bundle: Bundle) -> dict[str, Any]:
    """Return inference.json, complete in itself because MONAI Label reads no other file.

    Args:
        bundle: the specification.
    """
    knobs = {
        "bundle_root": ".",
        **select_knobs(
            bundle,
            "dataset_dir output_dir ckpt_dir in_channels label_names label_values regions spacing intensity patch_size "
            "amp seed num_workers mirror_axes overlap sw_batch_size skip_air largest_component low_memory max_shape "
            "expected_input series device engine",
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
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                *load_and_normalize(["image"], ["image"], series="@series"),
                ours("WarnLargeInputd", keys="image", max_shape="@max_shape", expected="@expected_input"),
            ],
        },
        "dataset": shared.INFERENCE_DATASET,
        "dataloader": shared.load_one_by_one("@dataset"),
        "inferer": SLIDING_WINDOW,
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                *bring_to_original_grid("@preprocessing"),
                {
                    "_target_": "AsDiscreted",
                    "_disabled_": "$@low_memory or @regions is not None",
                    "keys": "pred",
                    "argmax": True,
                },
                LARGEST_COMPONENT,
                ours("FileLabelsd", keys="pred", **CLASSES),
                ours("SaveMasksd", keys="pred", output_dir="@output_dir", output_dtype=ours("label_dtype", **CLASSES)),
            ],
        },
        "evaluator": shared.INFERENCE_EVALUATOR,
        "knob_check": shared.check_knobs(knobs),
        "initialize": shared.INITIALIZE_INFERENCE,
        "run": [
            ours("check_outputs", output_dir="@output_dir"),
            ours("check_masks", output_dir="@output_dir", inference="@dataset#data"),
            ours("check_data", in_channels="@in_channels", inference="@dataset#data", series="@series"),
            ours("report_memory", **MEMORY, inference="@dataset#data", series="@series"),
            "$@evaluator.run()",
        ],
    }
