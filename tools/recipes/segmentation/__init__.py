"""The segmentation recipe: configs and README of a bundle from its specification."""

from __future__ import annotations

from typing import Any

from custom_networks.workflow.data.training_cases import WEIGHTS_FOLD
from tools.recipes.bundle import Bundle
from tools.recipes.multi_gpu import MULTI_GPU_EVALUATE, MULTI_GPU_TRAIN
from tools.recipes.segmentation.evaluate import EVALUATE
from tools.recipes.segmentation.inference import build_inference
from tools.recipes.segmentation.inference_head import build_inference_head
from tools.recipes.segmentation.metadata import build_metadata
from tools.recipes.segmentation.performance import SCORE, list_metrics, state_result
from tools.recipes.segmentation.readme import render_readme
from tools.recipes.segmentation.train import build_train

__all__ = ["SCORE", "build_configs", "list_metrics", "render_readme", "state_result"]


def build_configs(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return every JSON file of the bundle's ``configs`` folder by its relative path.

    Args:
        bundle: the specification.
    """
    files: dict[str, dict[str, Any]] = {
        "train.json": build_train(bundle),
        "evaluate.json": EVALUATE,
        "inference.json": build_inference(bundle),
        "multi_gpu_train.json": MULTI_GPU_TRAIN,
        "multi_gpu_evaluate.json": MULTI_GPU_EVALUATE,
        "metadata.json": build_metadata(bundle),
        "profiles/low_memory.json": {"low_memory": True},
        "profiles/large_volume.json": {"overlap": 0.25, "skip_air": True},
        "profiles/finetune.json": {
            "finetune_ckpt": "$@bundle_root + '/models/model.pt'",
            # also for the evaluation and the inference that take this profile
            "ckpt_dir": "$@output_dir + '/finetuned'",
            "learning_rate": round(bundle.knobs["learning_rate"] / 10, 9),
            "epochs": bundle.knobs["epochs"] // 2,
        },
    }
    if bundle.places:
        files["inference_head.json"] = build_inference_head(bundle)
    if bundle.folds is not None:
        rule = f"{bundle.folds_rule}; cases of other data sets: rank among the sorted names modulo 5"
        files["folds.json"] = {"rule": rule, WEIGHTS_FOLD: bundle.weights_fold, "folds": bundle.folds}
    return files
