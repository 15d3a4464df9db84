"""inference.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.segmentation.shared import (
    CODE_PATH,
    IMPORTS,
    geometry,
    inferer,
    knobs,
    largest_component,
    loading,
    network_def,
    ours,
    to_original_grid,
)

KNOBS = (
    "dataset_dir output_dir ckpt_dir in_channels label_names spacing patch_size amp seed num_workers mirror_axes "
    "largest_component device"
).split()


def inference(bundle: Bundle) -> dict[str, Any]:
    """Return inference.json, complete in itself because MONAI Label reads no other file.

    Args:
        bundle: the specification.
    """
    definition = network_def(bundle)
    if "deep_supervision" in definition:
        definition["deep_supervision"] = False
    return {
        "imports": IMPORTS,
        "bundle_root": ".",
        **knobs(bundle, KNOBS),
        "ckpt_path": "$@ckpt_dir + '/model.pt'",
        "load_pretrain": True,
        "displayable_configs": {"result_extension": ".nii.gz"},
        "code_path": CODE_PATH,
        "network_def": definition,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                *loading(["image"]),
                *geometry(["image"]),
                ours("WarnLargeInputd", keys="image", max_shape=list(bundle.max_shape), expected=bundle.expected),
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": ours("inference_data_list", dataset_dir="@dataset_dir"),
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": "@num_workers",
        },
        "inferer": inferer(),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                *to_original_grid("@preprocessing"),
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                largest_component(),
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_ext": ".nii.gz",
                    "output_dtype": "$numpy.uint8",
                    "output_postfix": "seg",
                    "separate_folder": False,
                    "resample": False,
                },
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "initialize": [
            ours("report_errors"),
            "$monai.utils.set_determinism(seed=@seed)",
            {**ours("load_weights", network="@network", path="@ckpt_path"), "_disabled_": "$not @load_pretrain"},
        ],
        "run": [ours("check_data", in_channels="@in_channels", inference="@dataset#data"), "$@evaluator.run()"],
    }
