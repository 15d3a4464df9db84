"""What is asked about an image before and while it is read: whether the memory holds it, and what is odd about it.

The bundle's own ``custom_networks`` answers, so that it is imported where it is needed. A bundle of others, without the
knobs of ours, is asked nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException

READER = "preprocessing#transforms#0#reader"
KNOBS = {"spacing", "in_channels", "series", "max_shape", "expected_input"}
KNOBS_OF_HEADS = {"places", "in_channels", "series"}


def _has(task: Any, data: Mapping[str, Any], knobs: set[str]) -> bool:
    return set(task.bundle_config.get()) >= knobs and isinstance(data.get("image"), str)


def check_memory(task: Any, data: Mapping[str, Any]) -> None:
    """Refuse an image for which the memory does not suffice, before a voxel of it is read.

    Args:
        task: the inference of the bundle.
        data: the request.

    Raises:
        HTTPException: 413 with the sizes, if the memory bill is more than what is free.
        ValueError: if the image by itself, resampled, does not fit.
    """
    if _has(task, data, KNOBS_OF_HEADS):
        _check_head(data["image"], task.bundle_config.get_parsed_content)
    if not _has(task, data, KNOBS):
        return
    from custom_networks.predict.memory_plan import MemoryPlan
    from custom_networks.workflow.memory.bill import format_bytes
    from custom_networks.workflow.memory.memory_report import check_fits

    get = task.bundle_config.get_parsed_content
    stored, resampled = check_fits(data["image"], get("spacing"), get("in_channels"), get("series"))
    if "low_memory" not in task.bundle_config.get():  # of a patch of one size
        return
    segmenter: Any = SimpleNamespace(parser=task.bundle_config, network=task.network)
    plan = MemoryPlan(segmenter, memory=None)
    need = plan.total(stored, resampled)
    if need is None or need <= plan.limit:
        return
    advice = "crop it" if plan.low_memory else "crop it, or set low_memory to true in the bundle's inference.json"
    raise HTTPException(
        413,
        f"{data['image']} has {_shape(stored)} voxels, {_shape(resampled)} at the spacing of the network, and would "
        f"take {format_bytes(need)} of memory where {format_bytes(plan.limit)} are free; {advice}",
    )


def _check_head(image: str, get: Any) -> None:
    from custom_networks.workflow.data.volumes import read_grid
    from custom_networks.workflow.memory.bill import available_bytes
    from custom_networks.workflow.memory.head_bill import check_head_fits

    shape = read_grid(Path(image), get("series")).shape
    try:
        check_head_fits(shape, get("in_channels"), Path(image), available_bytes(torch.device("cpu")))
    except ValueError as error:
        raise HTTPException(413, str(error)) from error


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


@contextmanager
def watched(task: Any, data: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Give the list to which the warnings about an image are added when it is read.

    Args:
        task: the inference of the bundle.
        data: the request.

    Yields:
        ``{"kind", "structure", "text"}`` each, as in the records of ``python -m custom_networks predict``.
    """
    warnings: list[dict[str, Any]] = []
    if not _has(task, data, KNOBS):
        yield warnings
        return
    from custom_networks.workflow.report.image_facts import image_facts
    from custom_networks.workflow.report.plausibility import find_warnings
    from custom_networks.workflow.report.training_data import read_training_data

    get = task.bundle_config.get_parsed_content
    weights, chosen = Path(task.get_path()), data.get("model_filename")
    if chosen:  # all that there are, where the client has chosen none
        weights = weights.with_name(Path(chosen if isinstance(chosen, str) else chosen[0]).name)

    def observe(files: list[Path], voxels: np.ndarray, meta: Mapping[str, Any]) -> None:
        facts = image_facts(voxels, meta["affine"])
        record = {"working_spacing": list(get("spacing")), "structures": []}
        known = read_training_data(weights)
        warnings[:] = find_warnings(record, facts, known, get("max_shape"), get("expected_input"))

    reader = get(READER)
    reader.observe = observe
    try:
        yield warnings
    finally:
        reader.observe = None
