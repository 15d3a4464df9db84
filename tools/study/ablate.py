"""The removal test: train variants of a bundle with the same budget and the same seeds, and compare them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import find_bundle, profile_path
from custom_networks.files import write_text
from custom_networks.studies.side_by_side import Seat, run_all
from tools.recipes.render import all_bundles, recipe_of, render
from tools.study.runs import train_and_evaluate

BUDGET = "removal"


def run_path(bundle: Path, variant: str, seed: int) -> Path:
    """Return the file that keeps one run of the removal test.

    Args:
        bundle: the bundle's folder.
        variant: profile of the variant.
        seed: seed of the run.
    """
    return bundle / "docs" / "runs" / BUDGET / f"{variant}_seed{seed}.json"


def ablate(
    bundle: str,
    variants: str | Sequence[str],
    seeds: int = 3,
    dataset_dir: str | None = None,
    work_dir: str = "runs/removal",
    jobs: int = 2,
) -> None:
    """Train every variant with every seed, keep one JSON per run, and render the table into the bundle's README.

    The budget (epochs, width) is the bundle's profile "removal", over which the variant's profile is laid. Each run has
    one CPU thread, so that ``jobs`` of them run side by side and give the same result as alone. Runs that are kept
    already are not repeated (delete their JSON to repeat them); an interrupted run goes on from its last checkpoint.

    Args:
        bundle: name or folder of the bundle.
        variants: profiles, comma separated.
        seeds: number of seeds, counted from 0.
        dataset_dir: the data set, if not the one in train.json.
        work_dir: folder for checkpoints and logs.
        jobs: number of runs side by side.

    Raises:
        ValueError: if the bundle or a profile does not exist.
        RuntimeError: if a run fails.
    """
    # A profile that was edited in the recipe has to be on disk before it is trained.
    render()
    folder = find_bundle(bundle)
    score = next((recipe_of(known).SCORE for known in all_bundles() if known.name == folder.name), None)
    if score is None:
        raise ValueError(f"{folder.name} is not rendered from tools/recipes, so no score is known; add its recipe")
    names = variants.split(",") if isinstance(variants, str) else list(variants)
    budget = profile_path(folder, BUDGET)
    profiles = {name: profile_path(folder, name) for name in names}
    overrides: dict[str, Any] = {} if dataset_dir is None else {"dataset_dir": dataset_dir}
    todo = [(name, seed) for seed in range(seeds) for name in names if not run_path(folder, name, seed).is_file()]

    def run(name: str, seed: int, seat: Seat) -> None:
        work = Path(work_dir) / folder.name / f"{name}_seed{seed}"
        record = train_and_evaluate(folder, [budget, profiles[name]], work, {**overrides, "seed": seed}, seat.threads)
        path = run_path(folder, name, seed)
        write_text(path, json.dumps(record, indent=1) + "\n")
        print(f"{name}, seed {seed}: {score.name} {score.of(record):.4f}", flush=True)

    tasks = {f"{name}, seed {seed}": partial(run, name, seed) for name, seed in todo}
    for error in run_all(tasks, [Seat(threads=1)] * jobs).values():
        raise error
    render()
