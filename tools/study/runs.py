"""One training and evaluation through ``monai.bundle``, kept as one JSON file."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from custom_networks.bundle_folder import read_config
from custom_networks.studies import run
from custom_networks.studies.side_by_side import Seat
from custom_networks.workflow import load_weights
from custom_networks.workflow.memory.multiply_adds import multiply_adds

PACKAGES = ("monai", "torch", "pytorch-ignite", "numpy")


def network_cost(bundle: Path, profiles: Sequence[Path]) -> dict[str, int]:
    """Count the parameters and the multiply-accumulates of one forward pass on one training patch.

    Args:
        bundle: the bundle's folder.
        profiles: override files.
    """
    parser = read_config(bundle, "train", profiles)
    network = parser.get_parsed_content("network_def")
    macs = multiply_adds(network, parser["in_channels"], parser["patch_size"])
    return {"parameters": sum(p.numel() for p in network.parameters()), "macs": macs}


def train_and_evaluate(
    bundle: Path, profiles: Sequence[Path], work_dir: Path, overrides: Mapping[str, Any], threads: int | None = None
) -> dict[str, Any]:
    """Train and evaluate a bundle in processes of their own; go on from the last checkpoint if there is one.

    Args:
        bundle: the bundle's folder.
        profiles: at most two override files, the later wins.
        work_dir: where checkpoints, logs and metrics go.
        overrides: knobs and their values.
        threads: CPU threads, or ``None`` for all.

    Returns:
        The record of the run: seconds of training, curve, metrics, cost of the network, versions and machine.

    Raises:
        ValueError: if the training built another network than these profiles describe, or an unfinished run of another
            request is in ``work_dir``.
        RuntimeError: if a process fails; its output is in ``train.log`` or ``evaluate.log`` under ``work_dir``.
    """
    run.train_and_evaluate(bundle, profiles, work_dir, overrides, Seat(threads))
    # What is counted must be what was trained: monai.bundle drops a null from the later of two profiles, for one.
    load_weights(read_config(bundle, "train", profiles).get_parsed_content("network_def"), work_dir / run.MODEL)
    with (work_dir / "training_curve.csv").open() as file:
        curve = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    metrics = json.loads((work_dir / "metrics.json").read_text())
    metrics.pop("files", None)  # where they lie on this machine
    record = {
        "bundle": bundle.name,
        "profiles": [path.stem for path in profiles],
        "overrides": {key: value for key, value in overrides.items() if key != "dataset_dir"},
        "epochs": len(curve),
        "train_seconds": round(sum(point["seconds"] for point in curve), 1),
        **network_cost(bundle, profiles),
        "metrics": metrics,
        "curve": curve,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": {"device": device_name(), "threads": threads or torch.get_num_threads()},
    }
    # The run is complete: a later one in this folder, perhaps of another recipe, must not go on from it.
    run.forget(work_dir)
    return record


def device_name() -> str:
    """Return the name of the GPU, or of the processor where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor())
