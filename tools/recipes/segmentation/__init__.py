"""The segmentation recipe: configs and README of a bundle from its specification."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.metadata import metadata
from tools.recipes.overlays import evaluate, multi_gpu_evaluate, multi_gpu_train
from tools.recipes.segmentation.inference import inference
from tools.recipes.segmentation.readme import SCORE, headline, readme
from tools.recipes.segmentation.shared import CLASSES, memory_bill
from tools.recipes.segmentation.train import finetuning, train
from tools.recipes.shared import ours

__all__ = ["SCORE", "configs", "headline", "readme"]


def configs(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return every JSON file of the bundle's ``configs`` folder by its relative path.

    Args:
        bundle: the specification.
    """
    files: dict[str, dict[str, Any]] = {
        "train.json": train(bundle),
        "evaluate.json": evaluate(
            ours("SegmentationReport", output_dir="@output_dir", label_names="@label_names"),
            ours(
                "check_data",
                in_channels="@in_channels",
                **CLASSES,
                validation="@validate#dataset#data",
            ),
            *memory_bill(cache_rate="@cache_rate", validation="@validate#dataset#data"),
        ),
        "inference.json": inference(bundle),
        "profiles/low_memory.json": {"low_memory": True},
        "profiles/finetune.json": finetuning(bundle),
        "multi_gpu_train.json": multi_gpu_train(),
        "multi_gpu_evaluate.json": multi_gpu_evaluate(),
        "metadata.json": metadata(
            bundle,
            [-100, 100],
            {"type": "image", "format": "segmentation"},
            {
                "spatial_shape": list(bundle.knobs["patch_size"]),
                "dtype": "float32",
                "is_patch_data": True,
                "value_range": [],
            },
            {"monai-label": ""},
        ),
    }
    if bundle.folds is not None:
        rule = "case names of the five validation folds; cases of other data sets: rank among the sorted names modulo 5"
        files["folds.json"] = {"rule": rule, "folds": [list(fold) for fold in bundle.folds]}
    return files
