"""What engines and precisions change in the score of the shipped weights."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import monai.bundle
import torch

from custom_networks.bundle_folder import find_bundle
from custom_networks.files import read_json, write_text
from custom_networks.workflow.data.folds import ALL
from custom_networks.workflow.infer.engines.openvino_runner import precision_of
from custom_networks.workflow.infer.inferers import has_bfloat16
from tools.recipes.engines import RECORD
from tools.recipes.render import recipe_of, render, spec_of
from tools.recipes.shared import ENGINE_NETWORK
from tools.study.runs import device_name

PRECISIONS = {"float32": False, "bfloat16": True}


def precision(bundle: str, dataset_dir: str | None = None) -> None:
    """Evaluate the shipped weights by PyTorch and OpenVINO in float32 and bfloat16, and put the scores in the README.

    The cases are those of fold 0, which the weights have not seen, unless they were trained on all. A precision that
    the processor does not compute in is refused: the figures would be those of float32.

    Args:
        bundle: name or folder of the bundle.
        dataset_dir: the data set, if not the one in train.json.

    Raises:
        ValueError: if there is no such bundle, the processor lacks bfloat16, or OpenVINO is not installed.
    """
    folder = find_bundle(bundle)
    spec = spec_of(folder)
    if not has_bfloat16(torch.device("cpu")) or precision_of(amp=True) != "bfloat16":
        raise ValueError("this processor does not compute in bfloat16; measure on one with AVX512-BF16 or AMX")
    score = recipe_of(spec).SCORE
    data = {} if dataset_dir is None else {"dataset_dir": dataset_dir}
    scores: dict[str, dict[str, float]] = {}
    metrics: dict[str, Any] = {}
    for engine in ("torch", "openvino"):
        for name, amp in PRECISIONS.items():
            metrics = _evaluate(folder, engine, {**data, "amp": amp})
            scores.setdefault(engine, {})[name] = score.of({"metrics": metrics})
            print(f"{folder.name} {engine} {name}: {scores[engine][name]:.5f}")
    record = {
        "score": score.name,
        "cases": metrics["cases"],
        "held_back": spec.weights_fold != ALL,
        "scores": scores,
        "versions": {package: version(package) for package in ("torch", "openvino")},
        "machine": device_name(),
    }
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
    print(f"written: {folder / RECORD}")
    render()


def _evaluate(folder: Path, engine: str, knobs: dict[str, Any]) -> dict[str, Any]:
    """Return what metrics.json says of one evaluation in this process."""
    with tempfile.TemporaryDirectory() as output:
        monai.bundle.run(
            bundle_root=str(folder),
            config_file=[str(folder / "configs" / name) for name in ("train.json", "evaluate.json")],
            logging_file=False,
            network={**ENGINE_NETWORK, "engine": engine},
            device="cpu",
            output_dir=output,
            **knobs,
        )
        return read_json(Path(output) / "metrics.json")
