"""The classification recipe: configs and README of a bundle from its specification."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.classification.evaluate import EVALUATE
from tools.recipes.classification.inference import build_inference
from tools.recipes.classification.metadata import build_metadata
from tools.recipes.classification.readme import SCORE, list_metrics, render_readme, state_result
from tools.recipes.classification.train import build_train
from tools.recipes.multi_gpu import MULTI_GPU_EVALUATE, MULTI_GPU_TRAIN

__all__ = ["SCORE", "build_configs", "list_metrics", "render_readme", "state_result"]


def build_configs(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return every JSON file of the bundle's ``configs`` folder by its relative path.

    Args:
        bundle: the specification.
    """
    return {
        "train.json": build_train(bundle),
        "evaluate.json": EVALUATE,
        "inference.json": build_inference(bundle),
        "multi_gpu_train.json": MULTI_GPU_TRAIN,
        "multi_gpu_evaluate.json": MULTI_GPU_EVALUATE,
        "metadata.json": build_metadata(bundle),
    }
