"""inference.json of the classification recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.classification.shared import check, inferer, preprocessing, to_probabilities
from tools.recipes.engine import inference_config
from tools.recipes.shared import ours

KNOBS = (
    "dataset_dir output_dir ckpt_dir in_channels label_names spacing intensity_range patch_size amp seed num_workers "
    "mirror_axes max_shape expected_input device"
).split()


def inference(bundle: Bundle) -> dict[str, Any]:
    """Return inference.json.

    Args:
        bundle: the specification.
    """
    *first, resize = preprocessing()
    warning = ours("WarnLargeInputd", keys="image", max_shape="@max_shape", expected="@expected_input")
    return inference_config(
        bundle,
        KNOBS,
        displayable={},
        preprocessing=[*first, warning, resize],
        inferer=inferer(),
        postprocessing=[to_probabilities()],
        check=check(inference="@dataset#data"),
        handlers=[ours("ClassificationReport", output_dir="@output_dir", label_names="@label_names")],
    )
