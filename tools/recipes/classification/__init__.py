"""The classification recipe: configs and README of a bundle from its specification."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.classification.inference import inference
from tools.recipes.classification.readme import SCORE, headline, readme
from tools.recipes.classification.shared import check
from tools.recipes.classification.train import train
from tools.recipes.metadata import metadata
from tools.recipes.overlays import evaluate, multi_gpu_evaluate, multi_gpu_train
from tools.recipes.shared import ours

__all__ = ["SCORE", "configs", "headline", "readme"]


def configs(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return every JSON file of the bundle's ``configs`` folder by its relative path.

    Args:
        bundle: the specification.
    """
    return {
        "train.json": train(bundle),
        "evaluate.json": evaluate(
            ours("ClassificationReport", output_dir="@output_dir", label_names="@label_names"),
            check(validation="@validate#dataset#data"),
            **{"validate#dataset#data#section": "@evaluation_split"},
        ),
        "inference.json": inference(bundle),
        "multi_gpu_train.json": multi_gpu_train(),
        "multi_gpu_evaluate.json": multi_gpu_evaluate(),
        "metadata.json": metadata(
            bundle,
            [0, 1],
            {"type": "probabilities", "format": "classes"},
            {"spatial_shape": [], "dtype": "float32", "is_patch_data": True, "value_range": []},
            {},
        ),
    }
