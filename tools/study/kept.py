"""Studies that the repository keeps: the tables of ``compare`` and ``cross_validate``, with what they are of."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_networks import __version__
from custom_networks.bundle_folder import HOME
from custom_networks.files import read_json, write_text
from tools.recipes.studies import RECORD, STUDIES, TABLE

KINDS = {"comparison": "comparison.json", "cross_validation": "summary.json"}
"""The report that each kind of study writes, beside the table that is called as the kind."""
PAGE, PICTURE = "comparison.md", "comparison.png"
NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
PLACES = ("dataset_dir", "folds_file", "output_dir", "ckpt_dir")
"""Entries that say where something lies on a machine."""


def keep(folder: str, name: str, dataset: str, split: str, command: str) -> Path:
    """Copy the tables of a finished study into ``docs/studies``, with what they are of, and make ``results.csv`` anew.

    Args:
        folder: ``--out`` of ``custom_networks compare`` or ``cross_validate``.
        name: of the study, in small letters, digits and underscores.
        dataset: what the data set is called.
        split: the rule of its folds, in words.
        command: the command that made it, without paths of this machine.

    Raises:
        FileNotFoundError: if the folder holds no finished study.
        ValueError: if the name has other characters, or trainings of the study failed.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"the name of a study has small letters, digits and underscores, got {name!r}; correct it")
    source = Path(folder)
    kind = next((kind for kind, report in KINDS.items() if (source / report).is_file()), None)
    if kind is None or not (source / f"{kind}.csv").is_file():
        raise FileNotFoundError(f"{source} holds no finished study; run compare or cross_validate to its end first")
    report = read_json(source / KINDS[kind])
    if report.get("failed"):
        raise ValueError(f"trainings of the study in {source} failed; finish them first")
    target = STUDIES / name
    target.mkdir(parents=True, exist_ok=True)
    own = {"kind": kind, "dataset": dataset, "split": split, "command": command, "version": __version__}
    record = {**own, "commit": _commit(), "report": without_places(report)}
    write_text(target / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    shutil.copyfile(source / f"{kind}.csv", target / TABLE)
    for extra in (PAGE, PICTURE):
        if (source / extra).is_file():
            shutil.copyfile(source / extra, target / extra)
    from tools.study.results import results

    results()
    print(f"kept: {target}")
    return target


def without_places(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report without the entries that say where something lies on a machine.

    Args:
        report: the content of a JSON file.

    Example:
        >>> without_places({"request": {"knobs": {"dataset_dir": "/home/me/data", "batch_size": 1}}})
        {'request': {'knobs': {'batch_size': 1}}}
    """
    return {
        key: without_places(value) if isinstance(value, Mapping) else value
        for key, value in report.items()
        if key not in PLACES
    }


def _commit() -> str:
    """Return the commit of the working tree, with a plus behind it where that has changes."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HOME, capture_output=True, text=True, check=True)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"], cwd=HOME, capture_output=True, text=True, check=True
    )
    return head.stdout.strip() + "+" * bool(changed.stdout.strip())
