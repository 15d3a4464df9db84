"""The engine ``auto``: what is faster on this machine, measured once and remembered."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from custom_networks.files import read_json, write_text
from custom_networks.workflow.infer.engines.kept_files import FOLDER, fingerprint, user_cache
from custom_networks.workflow.infer.engines.openvino_runner import (
    ConversionError,
    MissingPackageError,
    OpenVinoRunner,
    precision_of,
    versions,
)

logger = logging.getLogger(__name__)
TIMED_RUNS = 3
Seconds = dict[str, float]


def choose(network: nn.Module, convert: Callable[[], OpenVinoRunner], x: Tensor, *, amp: bool) -> OpenVinoRunner | None:
    """Return OpenVINO's network where it is faster than PyTorch's on this machine, ``None`` where it is not or fails.

    The measurement is kept in the user's cache, by the processor, threads, versions, weights, size and precision. So is
    that a network cannot be converted; a package that is missing may be there the next time.

    Args:
        network: the network in eval mode, called under the autocast that is on.
        convert: returns the network as OpenVINO runs it.
        x: an input ``(B, C, *S)`` on the CPU.
        amp: whether OpenVINO may compute in bfloat16.
    """
    conditions = {
        "machine": versions(),
        "threads": torch.get_num_threads(),
        "network": fingerprint(network),
        "size": list(x.shape),
        "precision": {
            "torch": "bfloat16" if torch.is_autocast_enabled("cpu") else "float32",
            "openvino": precision_of(amp),
        },
    }
    key = hashlib.sha256(json.dumps(conditions).encode()).hexdigest()
    file = user_cache() / FOLDER / f"{key}.json"
    record: dict[str, Any] | None = None
    with suppress(OSError, ValueError):
        record = read_json(file)
    runner: OpenVinoRunner | None = None
    try:
        if record is None:
            seconds: Seconds = {}
            runner = convert()
            for name, run in (("torch", network), ("openvino", runner)):
                seconds[name] = _least_seconds(run, x)
            record = {**conditions, "seconds": seconds}
        elif _is_openvino(record):
            runner = convert()
    except (MissingPackageError, OSError) as error:
        logger.info("engine auto takes torch: %s", error)
        return None
    except ConversionError as error:
        record = {**conditions, "failed": str(error)}
    with suppress(OSError):  # it is measured again where it cannot be kept
        write_text(file, json.dumps(record, indent=2) + "\n")
    logger.info("engine auto takes %s (%s)", "openvino" if _is_openvino(record) else "torch", _reason(record))
    return runner if _is_openvino(record) else None


def _is_openvino(record: dict[str, Any]) -> bool:
    seconds: Seconds = record.get("seconds", {})
    return seconds.get("openvino", 1) < seconds.get("torch", 0)


def _reason(record: dict[str, Any]) -> str:
    if "failed" in record:
        return str(record["failed"])
    size = " x ".join(map(str, record["size"]))
    told = ", ".join(
        f"{name} {seconds:.3g} s in {record['precision'][name]}" for name, seconds in record["seconds"].items()
    )
    return f"input {size}: {told}"


def _least_seconds(run: Callable[[Tensor], Any], x: Tensor) -> float:
    """Return the least time of a few runs, which disturbances of the machine lengthen, after one that warms up."""
    run(x)
    seconds = []
    for _ in range(TIMED_RUNS):
        start = perf_counter()
        run(x)
        seconds.append(perf_counter() - start)
    return min(seconds)
