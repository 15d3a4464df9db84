"""What the variants of a removal test cost: time and peak memory of a training step, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from custom_networks.bundle_folder import find_bundle, profile_path, read_config
from custom_networks.files import write_text
from tools.bench.bench import MEASURES, check_repeats, conditions, summary, take_turns
from tools.recipes.removal import COST_FILE
from tools.recipes.render import render
from tools.study.ablate import BUDGET


def ablate_cost(bundle: str, variants: str | Sequence[str], repeats: int = 3, threads: int = 1) -> None:
    """Measure a training step of every variant and render time and peak memory into the removal test's tables.

    A step is forward, cross-entropy, backward and AdamW on one batch of training patches with the bundle's mixed
    precision. Every figure is the median over ``repeats`` fresh processes per variant, which take turns. Peak memory:
    peak resident memory minus its peak before the first forward pass.

    Args:
        bundle: name or folder of the bundle.
        variants: profiles, comma separated.
        repeats: rounds, at least 1.
        threads: CPU threads.

    Raises:
        ValueError: if an argument is out of range, the bundle or a profile does not exist, or a network cannot be run.
    """
    check_repeats(repeats)
    render()
    folder = find_bundle(bundle)
    names = variants.split(",") if isinstance(variants, str) else list(variants)
    profiles = [profile_path(folder, BUDGET)]
    jobs = []
    for name in names:
        config = read_config(folder, "train", [*profiles, profile_path(folder, name)]).config
        shape = [config["batch_size"], config["in_channels"], *config["patch_size"]]
        common = {"device": "cpu", "amp": bool(config["amp"]), "threads": threads, "inner": False}
        jobs.append([{"config": config, "shape": shape, **common}])
    runs = take_turns(jobs, names, repeats)
    report: dict[str, Any] = {
        **conditions(runs[0][0][0], "cpu"),
        "shape": jobs[0][0]["shape"],
        "repeats": repeats,
        "variants": {
            name: {key: summary(own[0])[key] for key in MEASURES} for name, own in zip(names, runs, strict=True)
        },
    }
    path = folder / COST_FILE
    write_text(path, json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")
    render()
