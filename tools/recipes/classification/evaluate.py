"""evaluate.json of the classification recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.classification.components import PATCHES, REPORT
from tools.recipes.shared import CHECK_PAGE, WRITE_PAGE, ours

EVALUATE: dict[str, Any] = {
    "ckpt_path": "$@ckpt_dir + '/model.pt'",
    "validate#dataset#data#section": "@evaluation_split",
    "validate#dataset#data#ckpt_path": "@ckpt_path",
    "validate#handlers": [REPORT],
    "run": [
        CHECK_PAGE,
        ours("check_outputs", output_dir="@output_dir"),
        ours("load_weights", network="@network", path="@ckpt_path"),
        ours("check_patches", **PATCHES, validation="@validate#dataset#data"),
        "$@validate#evaluator.run()",
        WRITE_PAGE,
    ],
}
"""Laid over train.json."""
