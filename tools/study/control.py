"""The positive control of the removal tests: tasks that a network without the right mechanism must fail."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from custom_networks import __version__
from custom_networks.bundle_folder import HOME
from custom_networks.files import read_json, write_text
from custom_networks.registry import nearest
from custom_networks.studies.children import CHILDREN
from custom_networks.studies.side_by_side import Seat, run_all
from tools.recipes.markdown import format_table
from tools.study.control_run import NETWORKS, RECIPE, build, is_done, run_path
from tools.study.control_tasks import TASKS

YES, PARTLY, NO = "yes", "partly", "no"
SOLVED, ABOVE_CHANCE = 0.9, 0.55
"""From which mean accuracy on a task counts as solved, and what the interval must lie above to be more than chance."""
OF_A_RUN = ("correct", "parameters", "train_seconds", "torch")
Runs = Mapping[tuple[str, str, int], Mapping[str, Any]]
SPREAD = 0.1
"""Difference of the worst and the best seed from which a table shows them."""
LOG = "log.txt"
PAGE = """# Who can know what

Accuracy of small networks on synthetic tasks, each of which needs a reach of its own; by chance it is 0.5. Near: a
marker in sight of every voxel decides. What: a marker that is out of sight of the plain network. Which: that of two
markers out of sight which looks like the blob. Where: the half of the volume in which the blob lies, with no border in
sight. [How they are made, and why they have no shortcut](../decisions/control.md).

Every module stands once, on the coarsest grid of the same U-Net. In brackets the 95 % interval over volumes, and the
worst and the best seed where they differ by more than 0.1. Bold: solved, at least 0.9. These are trainings of a minute:
who fails a task has not learnt it so, which is not a proof that it cannot.

"""


def control(
    modules: str | Sequence[str] = NETWORKS,
    tasks: str | Sequence[str] = tuple(TASKS),
    seeds: int = 3,
    steps: int = 1000,
    jobs: int = 2,
    work_dir: str = "runs/control",
    output: str = "docs/studies/control.json",
) -> dict[str, Any]:
    """Train small networks on synthetic tasks that need a known reach, and write who solves which.

    Near: a marker in sight of every voxel decides. What: one out of sight of the plain network. Which: that of two out
    of sight which looks like the blob. Where: the place. The networks are the plain one, the plain one with instance
    norm or with coordinates, and the plain one with each attention module on its coarsest grid. Each run has one CPU
    thread and a file of its own under ``work_dir``. What is kept there or in ``output`` is not trained again, and is
    part of the result.

    Args:
        modules: networks, comma separated: plain, plain_instance_norm, plain_coordinates and the registry's modules.
        tasks: near, what, which, where, comma separated.
        seeds: number of seeds, counted from 0.
        steps: optimiser steps of each run.
        jobs: number of runs side by side.
        work_dir: folder for the runs.
        output: JSON file to write, or to add to; a page with the table goes beside it with the suffix ``.md``.

    Raises:
        ValueError: if a name or number does not fit, the work folder or ``output`` holds runs of other steps, or
            another such command runs in the work folder.
        RuntimeError: if a run fails.
    """
    networks = _names("module", modules, NETWORKS)
    asked = _names("task", tasks, tuple(TASKS))
    for name, number in (("seeds", seeds), ("steps", steps), ("jobs", jobs)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"--{name} must be a number from 1, got {number}; write for example --{name} 2")
    folder, file = Path(work_dir), Path(output)
    kept = _kept(file, steps)
    todo = {
        (network, task): [
            seed
            for seed in range(seeds)
            if not is_done(folder, network, task, seed, steps) and (network, task, seed) not in kept
        ]
        for task in asked
        for network in networks
    }
    with _alone_in(folder) as lock:
        trainings = {
            f"{network}, {task}": partial(_in_own_process, folder, network, task, own, steps, lock)
            for (network, task), own in todo.items()
            if own
        }
        for error in run_all(trainings, [Seat(threads=1)] * jobs).values():
            raise error
    report = collect({**kept, **_done(folder, steps)}, steps)
    write_text(file, json.dumps(report, indent=1) + "\n")
    write_text(file.with_suffix(".md"), page(report))
    print(f"written: {file} and {file.with_suffix('.md')}")
    return report


def _names(what: str, names: str | Sequence[str], known: Sequence[str]) -> list[str]:
    chosen = names.split(",") if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}; use for example {nearest(str(name), known)}")
    return chosen


def _kept(file: Path, steps: int) -> Runs:
    """Return the runs in the result of an earlier command, if there is one."""
    if not file.is_file():
        return {}
    report = read_json(file)
    wanted = {"steps": steps, **RECIPE}
    if differing := [key for key in wanted if report.get(key) != wanted[key]]:
        raise ValueError(f"{file} has runs of other {', '.join(differing)}; give another --output")
    runs = {
        (network, task, int(seed)): record
        for network, own in report["runs"].items()
        for task, records in own.items()
        for seed, record in records.items()
    }
    runs = {cell: record for cell, record in runs.items() if cell[0] in NETWORKS}
    counted = {(network, record["parameters"]) for (network, _, _), record in runs.items()}
    for network, parameters in sorted(counted):
        if parameters != sum(p.numel() for p in build(network, next(iter(TASKS))).parameters()):
            raise ValueError(f"{network} has another number of parameters by now; take its runs out of {file}")
    return runs


def _done(folder: Path, steps: int) -> Runs:
    """Return the runs of a work folder."""
    found: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    for network in NETWORKS:
        for task in TASKS:
            for file in sorted(folder.glob(f"{network}_{task}_seed*.json")):
                seed = int(file.stem.rpartition("seed")[2])
                is_done(folder, network, task, seed, steps)
                found[network, task, seed] = {key: read_json(file)[key] for key in OF_A_RUN}
    return found


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder, which the processes started from here inherit."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another command trains in {folder}; wait for its end, or give another --work_dir"
            ) from None
        yield file.fileno()


def _in_own_process(folder: Path, network: str, task: str, seeds: list[int], steps: int, lock: int, seat: Seat) -> None:
    """Train one network on one task, and say how well it did."""
    job = {"folder": str(folder), "network": network, "task": task, "seeds": seeds, "steps": steps}
    environment = {**os.environ, "PYTHONPATH": str(HOME), **seat.environment()}
    command = [sys.executable, "-m", "tools.study.control_run", json.dumps(job)]
    if code := CHILDREN.run(command, environment, folder / LOG, lock):
        raise RuntimeError(f"{network} on {task} ended with exit code {code}; {folder / LOG} says why")
    scores = [read_json(run_path(folder, network, task, seed)) for seed in seeds]
    print(
        f"{network}, {task}: {', '.join(format(own['correct'] / own['volumes'], '.3f') for own in scores)}", flush=True
    )


def collect(runs: Runs, steps: int) -> dict[str, Any]:
    """Return all that runs say.

    Args:
        runs: their records by network, task and seed.
        steps: that all of them have.
    """
    ordered: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
    for network, task, seed in sorted(
        runs, key=lambda cell: (NETWORKS.index(cell[0]), [*TASKS].index(cell[1]), cell[2])
    ):
        ordered.setdefault(network, {}).setdefault(task, {})[str(seed)] = runs[network, task, seed]
    return {
        "command": f"python -m tools study control --seeds {max(seed for *_, seed in runs) + 1} --steps {steps}",
        "version": __version__,
        "steps": steps,
        **RECIPE,
        "runs": ordered,
        "reach": {
            network: {task: reach([own["correct"] for own in records.values()]) for task, records in tasks.items()}
            for network, tasks in ordered.items()
        },
    }


def reach(correct: Sequence[int]) -> dict[str, Any]:
    """Return accuracy, its 95 % interval, and whether a task is solved.

    The interval is Clopper and Pearson's over the volumes of all seeds: what other volumes would give with these very
    trainings. How much trainings differ is seen in the seeds.

    Args:
        correct: how many volumes were right, by seed.

    Example:
        >>> reach([512, 480])["solved"]
        'yes'
    """
    of = len(correct) * RECIPE["volumes"]
    interval = binomtest(sum(correct), of).proportion_ci()
    accuracy = sum(correct) / of
    solved = YES if accuracy >= SOLVED else PARTLY if interval.low > ABOVE_CHANCE else NO
    return {"accuracy": accuracy, "interval": [interval.low, interval.high], "solved": solved}


def page(report: Mapping[str, Any]) -> str:
    """Return the page with the table, a line per network.

    Args:
        report: what :func:`collect` returns.
    """
    rows = []
    for network, tasks in report["reach"].items():
        cells = []
        for task in TASKS:
            cell = tasks.get(task)
            records = report["runs"][network].get(task, {}).values()
            seeds = sorted(own["correct"] / report["volumes"] for own in records)
            cells.append(_cell(cell, seeds) if cell else "")
        parameters = {own["parameters"] for records in report["runs"][network].values() for own in records.values()}
        rows.append([f"`{network}`", *cells, ", ".join(f"{number:,}" for number in sorted(parameters))])
    all_runs = [own for tasks in report["runs"].values() for records in tasks.values() for own in records.values()]
    hours = sum(own["train_seconds"] for own in all_runs) / 3600
    lines = [
        PAGE,
        *format_table(["network", *TASKS, "parameters"], rows),
        "",
        f"{report['steps']:,} steps of {report['batch_size']} volumes, measured on {report['volumes']} fresh ones per "
        f"seed; {len(all_runs)} trainings, {hours:.1f} hours of one CPU thread, "
        f"torch {', '.join(sorted({own['torch'] for own in all_runs}))}.",
        "",
        "```text",
        report["command"],
        "```",
        "",
    ]
    return "\n".join(lines)


def _cell(cell: Mapping[str, Any], seeds: Sequence[float]) -> str:
    """Return accuracy, interval and, where they differ, the worst and the best seed."""
    low, high = cell["interval"]
    spread = f"; seeds {seeds[0]:.2f} to {seeds[-1]:.2f}" if seeds[-1] - seeds[0] > SPREAD else ""
    text = f"{cell['accuracy']:.2f} ({low:.2f} to {high:.2f}{spread})"
    return f"**{text}**" if cell["solved"] == YES else text
