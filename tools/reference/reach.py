"""What the positive control says of each attention module: the table and how to choose by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from custom_networks.registry import ATTENTION
from tools import ROOT
from tools.recipes.markdown import format_table

CONTROL = ROOT / "docs" / "studies" / "control.json"
COMMAND = "python -m tools study control"
TASKS = {
    "near": "a class that the neighbourhood decides",
    "what": "something elsewhere in the image decides, whatever it is there",
    "which": "one of several things elsewhere decides, the one that looks like the voxel",
    "where": "the place decides",
}
ALONE = {
    "plain": "plain U-Net",
    "plain_instance_norm": "plain U-Net with instance norm",
    "plain_coordinates": "plain U-Net with coordinates",
}

TEXT = """\
## Reach

What a small U-Net knows with one module on its coarsest grid, on synthetic tasks that it must fail without. *Near*:
{near}. *What*: {what}. *Which*: {which}. *Where*: {where}. *Yes*: solved, at least nine of ten are right; *partly*:
more than chance; *no*: no more than chance. Trainings of a minute, {seeds} each: a no has not been learnt so, which is
not a proof. [Accuracies, intervals, command](../studies/control.md), [how the tasks are made](../decisions/control.md).
"""


def reach(report: Mapping[str, Any]) -> str:
    """Return the section of the reference page.

    Args:
        report: what ``tools study control`` writes.

    Raises:
        ValueError: if a registered module or a variant of the plain network has not been tried on every task, or one
            is not registered any more.
    """
    tried = report["reach"]
    names = [*ALONE, *ATTENTION]
    missing = [name for name in names if any(task not in tried.get(name, {}) for task in TASKS)]
    if missing:
        raise ValueError(f"{CONTROL.name} lacks tasks of {', '.join(missing)}; run: {COMMAND}")
    if unknown := sorted(tried.keys() - set(names)):
        raise ValueError(f"{CONTROL.name} has {', '.join(unknown)}, not in the registry; delete them and their runs")
    rows = [[_label(name), *(tried[name][task]["solved"] for task in TASKS)] for name in names]
    seeds = {len(runs) for own in report["runs"].values() for runs in own.values()}
    words = TEXT.format(**TASKS, seeds=_count(sorted(seeds)))
    return "\n".join([words, *format_table(["network", *TASKS], rows)])


def _label(name: str) -> str:
    return ALONE.get(name) or f"[`{name}`](#{name})"


def _count(seeds: Sequence[int]) -> str:
    numbers = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{numbers} seed{'s' if seeds[-1] > 1 else ''}"
