"""Train and evaluate a bundle, and keep the weights with their run file in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import find_bundle
from custom_networks.files import write_text
from custom_networks.studies.side_by_side import Seat, run_all
from custom_networks.workflow.data.folds import ALL
from tools.recipes.render import render, spec_of
from tools.study.describe import keep_description
from tools.study.runs import train_and_evaluate


def train(
    bundle: str, dataset_dir: str | None = None, seeds: int = 1, work_dir: str = "runs/training", jobs: int = 1
) -> None:
    """Train and evaluate a bundle, and keep the weights with their run file in it.

    Writes ``models/model.pt``, with what its training data are like, and ``docs/runs/training.json`` (seed 0),
    ``docs/runs/training_seed<n>.json`` of the other seeds, and the README. An interrupted training goes on
    from its last checkpoint. A bundle whose README has the figures of a cross-validation is trained on all cases: its
    weights are those of the last epoch, and its run file has no metrics, as no case is new to them.

    Args:
        bundle: name or folder of the bundle.
        dataset_dir: the data set, if not the one in train.json.
        seeds: number of seeds, counted from 0.
        work_dir: folder for checkpoints and logs.
        jobs: trainings side by side; with more than one, each has one CPU thread.

    Raises:
        ValueError: if there is no such bundle.
        RuntimeError: if a training or an evaluation fails.
    """
    folder = find_bundle(bundle)
    spec = spec_of(folder)
    data: dict[str, Any] = {} if dataset_dir is None else {"dataset_dir": dataset_dir}
    whole = spec.weights_fold == ALL
    fixed = {**data, "fold": ALL, "val_interval": spec.knobs["epochs"]} if whole else data

    def run(seed: int, seat: Seat) -> None:
        work = Path(work_dir) / folder.name / f"seed{seed}"
        overrides = {**fixed, "seed": seed} if seed else fixed
        record = train_and_evaluate(folder, [], work, overrides, threads=seat.threads)
        if whole:
            record = {**record, "metrics": None, "curve": [_without_validation(point) for point in record["curve"]]}
        path = folder / "docs" / "runs" / (f"training_seed{seed}.json" if seed else "training.json")
        write_text(path, json.dumps(record, indent=1) + "\n")
        if seed == 0:
            (folder / "models").mkdir(exist_ok=True)
            shutil.copyfile(work / "model.pt", folder / "models" / "model.pt")
            keep_description(work / "model.pt", folder)

    places = [Seat(threads=1 if jobs > 1 else None)] * jobs
    for error in run_all({f"seed {seed}": partial(run, seed) for seed in range(seeds)}, places).values():
        raise error
    render()


def _without_validation(point: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in point.items() if key != "validation_metric"}
