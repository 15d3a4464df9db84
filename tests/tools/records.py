"""Run files made by hand, as a training and an evaluation would write them."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle

POLICY = {"empty in both": "no value", "prediction": "the highest probability"}


def _segmentation(bundle: Bundle, score: float) -> dict[str, Any]:
    names = ("dice", "iou", "voe", "rvd", "mean_surface_distance", "hd95")
    measures = {name: {"mean": score, "std": 0.01, "n": 3} for name in names}
    return {
        "cases": 5,
        "policy": POLICY,
        "classes": dict.fromkeys(bundle.knobs["label_names"][1:], measures),
        "mean": {"dice": score},
    }


def _classification(bundle: Bundle, score: float) -> dict[str, Any]:
    names = ("auc", "average_precision", "balanced_accuracy", "sensitivity", "specificity", "brier")
    return {
        "cases": 5,
        "cases_per_class": dict(zip(bundle.knobs["label_names"], (3, 2), strict=True)),
        "policy": POLICY,
        "metrics": {name: {"value": score, "interval": [score - 0.08, score + 0.04]} for name in names},
        "confusion": [[2, 1], [0, 2]],
    }


def record(bundle: Bundle, score: float, seed: int = 0, variant: str = "", parameters: int = 1000) -> dict[str, Any]:
    """Return the run file of a bundle in which every metric has one value."""
    measured = {"segmentation": _segmentation, "classification": _classification}[bundle.recipe](bundle, score)
    return {
        "profiles": ["removal", variant] if variant else [],
        "overrides": {"seed": seed} if seed or variant else {},
        "epochs": 20,
        "train_seconds": 90.0,
        "parameters": parameters,
        "macs": parameters * 10**6,
        "metrics": measured,
        "curve": [{"epoch": 10, "validation_metric": 0.5}, {"epoch": 15}, {"epoch": 20, "validation_metric": 0.8}],
        "machine": {"device": "a processor", "threads": 1},
    }
