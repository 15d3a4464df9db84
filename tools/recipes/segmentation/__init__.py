"""The segmentation recipe: configs of a bundle from its specification."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.segmentation.inference import inference
from tools.recipes.segmentation.metadata import metadata
from tools.recipes.segmentation.overlays import evaluate, multi_gpu_evaluate, multi_gpu_train
from tools.recipes.segmentation.train import train

__all__ = ["configs"]


def configs(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return every JSON file of the bundle's ``configs`` folder by its relative path.

    Args:
        bundle: the specification.
    """
    files: dict[str, dict[str, Any]] = {
        "train.json": train(bundle),
        "evaluate.json": evaluate(),
        "inference.json": inference(bundle),
        "multi_gpu_train.json": multi_gpu_train(),
        "multi_gpu_evaluate.json": multi_gpu_evaluate(),
        "metadata.json": metadata(bundle),
    }
    files |= {f"profiles/{name}.json": dict(values) for name, values in bundle.profiles.items()}
    if bundle.folds is not None:
        rule = "case names of the five validation folds; cases of other data sets: rank among the sorted names modulo 5"
        files["folds.json"] = {"rule": rule, "folds": [list(fold) for fold in bundle.folds]}
    return files
