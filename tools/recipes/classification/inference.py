"""inference.json of the classification recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes import shared
from tools.recipes.bundle import Bundle
from tools.recipes.classification.components import (
    MIRROR_INFERER,
    OUT_CHANNELS,
    PAD_OR_CROP,
    PATCHES,
    PROBABILITIES,
    REPORT,
    load_and_scale,
)
from tools.recipes.knobs import select_knobs
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
            "dataset_dir output_dir ckpt_dir in_channels label_names spacing intensity_range patch_size amp seed "
            "num_workers mirror_axes max_shape expected_input series device "
            "engine",
        ),
        "ckpt_path": "$@ckpt_dir + '/model.pt'",
        "load_pretrain": True,
        "displayable_configs": {},
    }
    return {
        "imports": shared.IMPORTS,
        **knobs,
        "code_path": shared.CODE_PATH,
        "network_def": shared.define_network(bundle, OUT_CHANNELS),
        "network": shared.ENGINE_NETWORK,
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                *load_and_scale(series="@series"),
                ours("WarnLargeInputd", keys="image", max_shape="@max_shape", expected="@expected_input"),
                PAD_OR_CROP,
            ],
        },
        "dataset": shared.INFERENCE_DATASET,
        "dataloader": shared.load_one_by_one("@dataset"),
        "inferer": MIRROR_INFERER,
        "postprocessing": {"_target_": "Compose", "transforms": [PROBABILITIES]},
        "handlers": [REPORT],
        "evaluator": {**shared.INFERENCE_EVALUATOR, "val_handlers": "@handlers"},
        "knob_check": shared.check_knobs(knobs),
        "initialize": shared.INITIALIZE_INFERENCE,
        "run": [
            ours("check_outputs", output_dir="@output_dir"),
            ours("check_patches", **PATCHES, inference="@dataset#data", series="@series"),
            "$@evaluator.run()",
        ],
    }
