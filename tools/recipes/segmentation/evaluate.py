"""evaluate.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.segmentation.components import CLASSES, IGNORE, MEMORY
from tools.recipes.shared import ours

EVALUATE: dict[str, Any] = {
    "ckpt_path": "$@ckpt_dir + '/model.pt'",
    "validate#dataset#data#ckpt_path": "@ckpt_path",
    "validate#handlers": [ours("SegmentationReport", output_dir="@output_dir", **CLASSES)],
    "run": [
        ours("check_outputs", output_dir="@output_dir"),
        ours("load_weights", network="@network", path="@ckpt_path"),
        ours("check_data", in_channels="@in_channels", **CLASSES, **IGNORE, validation="@validate#dataset#data"),
        ours("report_memory", **MEMORY, cache_rate="@cache_rate", validation="@validate#dataset#data"),
        "$@validate#evaluator.run()",
    ],
}
"""Laid over train.json."""
