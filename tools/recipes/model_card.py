"""docs/model_card.yml: what a hub of models reads at the head of a bundle's page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tools.recipes.bundle import Bundle

Metric = tuple[str, str, float]
"""Kind, name and value of a figure."""


def render_model_card(bundle: Bundle, metrics: Sequence[Metric]) -> str:
    """Return the YAML that Hugging Face reads at the head of README.md: licence, data, tags and figures.

    Args:
        bundle: the specification.
        metrics: the figures of the shipped weights, none before they are measured.
    """
    data = Path(bundle.knobs["dataset_dir"]).name
    task = bundle.name.rpartition("_")[2]
    lines = [
        f"license: {bundle.weights_license}",
        "library_name: monai",
        f"pipeline_tag: image-{task}",
        "tags:",
        *(f"- {tag}" for tag in ("monai", "medical", "3d", "attention", bundle.metadata["modality"].lower(), task)),
        "datasets:",
        f"- {data}",
    ]
    if not metrics:
        return "\n".join([*lines, ""])
    lines += [
        "metrics:",
        *(f"- {kind}" for kind in dict.fromkeys(kind for kind, *_ in metrics)),
        "model-index:",
        f"- name: {bundle.name}",
        "  results:",
        "  - task:",
        f"      type: image-{task}",
        "    dataset:",
        f"      type: {data}",
        f"      name: {json.dumps(bundle.metadata['data_source'])}",
        "    metrics:",
        *(
            f"    - type: {kind}\n      name: {json.dumps(name)}\n      value: {value:.4f}"
            for kind, name, value in metrics
        ),
    ]
    return "\n".join([*lines, ""])
