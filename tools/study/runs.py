"""One training and evaluation through ``monai.bundle``, kept as one JSON file."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from custom_networks.bundle_folder import HOME, read_config
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
        ValueError: if the training built another network than these profiles describe.
        RuntimeError: if a process fails; its output is in ``train.log`` or ``evaluate.log`` under ``work_dir``.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    configs = bundle / "configs"
    knobs: dict[str, Any] = {**overrides, "output_dir": str(work_dir), "ckpt_dir": str(work_dir)}
    last, model = work_dir / "last_checkpoint.pt", work_dir / "model.pt"
    if not (work_dir / "trained").is_file():
        # weights of an earlier run may lie there
        resume = {"resume_ckpt": str(last)} if last.is_file() else {"overwrite": True}
        _bundle_run([configs / "train.json"], bundle, profiles, {**knobs, **resume}, threads, work_dir / "train.log")
        (work_dir / "trained").touch()
    if not model.is_file():
        raise RuntimeError(f"the training wrote no {model}; set val_interval to at most epochs")
    # What is counted must be what was trained: monai.bundle drops a null from the later of two profiles, for one.
    load_weights(read_config(bundle, "train", profiles).get_parsed_content("network_def"), model)
    files = [configs / "train.json", configs / "evaluate.json"]
    _bundle_run(files, bundle, profiles, knobs, threads, work_dir / "evaluate.log")
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
    (work_dir / "trained").unlink()
    last.unlink(missing_ok=True)
    return record


def device_name() -> str:
    """Return the name of the GPU, or of the processor where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor())


def _bundle_run(
    configs: Sequence[Path],
    bundle: Path,
    profiles: Sequence[Path],
    overrides: Mapping[str, Any],
    threads: int | None,
    log: Path,
) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle)]
    command += ["--config_file", str([str(path) for path in configs])]
    command += ["--logging_file", str(bundle / "configs" / "logging.conf")]
    if profiles:
        command += ["--args_file", str([str(p) for p in profiles]) if len(profiles) > 1 else str(profiles[0])]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code:
        lines = [line for line in log.read_text().splitlines() if line.strip()]
        raise RuntimeError(f"{log} ended with exit code {code}: {lines[-1] if lines else 'no output'}")
