"""evaluate.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.segmentation.components import CACHE_RATE, CLASSES, IGNORE, MEMORY
from tools.recipes.shared import CHECK_PAGE, WRITE_PAGE, ours

EVALUATE: dict[str, Any] = {
    "ckpt_path": "$@ckpt_dir + '/model.pt'",
    "validate#dataset#data#ckpt_path": "@ckpt_path",
    "validate#handlers": [
        ours(
            "SegmentationReport",
            output_dir="@output_dir",
            **CLASSES,
            save_masks="@report",
            tolerance="$@surface_tolerance or sorted(@spacing)[1]",
        )
    ],
    "run": [
        CHECK_PAGE,
        ours("check_outputs", output_dir="@output_dir"),
        ours("load_weights", network="@network", path="@ckpt_path"),
        ours("check_data", in_channels="@in_channels", **CLASSES, **IGNORE, validation="@validate#dataset#data"),
        ours("report_memory", **MEMORY, cache_rate=CACHE_RATE, validation="@validate#dataset#data"),
        "$@validate#evaluator.run()",
        WRITE_PAGE,
    ],
}
"""Laid over train.json."""
