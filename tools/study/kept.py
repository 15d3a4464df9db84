"""Studies that the repository keeps: tables of comparisons, cross-validations, evaluations, and what they are of."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_networks import __version__
from custom_networks.bundle_folder import HOME, find_bundle
from custom_networks.files import read_json, write_text
from tools.recipes.studies import RECORD, STUDIES, TABLE

EVALUATION = "evaluation"
KINDS = {
    "comparison": ("comparison.json", "comparison.csv"),
    "cross_validation": ("summary.json", "cross_validation.csv"),
    EVALUATION: ("metrics.json", "metrics.csv"),
}
"""The report and the table that each kind of study writes."""
PAGE, PICTURE = "comparison.md", "comparison.png"
NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
PLACES = ("dataset_dir", "folds_file", "output_dir", "ckpt_dir", "files")
"""Entries that say where something lies on a machine."""


def keep(folder: str, name: str, dataset: str, split: str, command: str, bundle: str | None = None) -> Path:
    """Copy the tables of a finished study into ``docs/studies``, with what they are of, and make ``results.csv`` anew.

    Args:
        folder: ``--out`` of ``custom_networks compare``, ``cross_validate`` or ``evaluate --bundle``.
        name: of the study, in small letters, digits and underscores.
        dataset: what the data set is called.
        split: the rule of its folds, in words.
        command: the command that made it, without paths of this machine.
        bundle: the bundle that was evaluated, which only an evaluation does not say itself.

    Raises:
        FileNotFoundError: if the folder holds no finished study.
        ValueError: if the name has other characters, trainings of the study failed, or an evaluation has no bundle.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"the name of a study has small letters, digits and underscores, got {name!r}; correct it")
    source = Path(folder)
    kind = next((kind for kind, files in KINDS.items() if all((source / file).is_file() for file in files)), None)
    if kind is None:
        raise FileNotFoundError(f"{source} holds no finished study; run compare, cross_validate or evaluate first")
    content, table = KINDS[kind]
    report = read_json(source / content)
    if report.get("failed"):
        raise ValueError(f"trainings of the study in {source} failed; finish them first")
    if (kind == EVALUATION) != (bundle is not None):
        what = kind.replace("_", "-")
        raise ValueError(f"{source} holds the {what} of a study; give --bundle with an evaluation, and only then")
    if bundle is not None:
        report = {**report, "bundle": find_bundle(bundle).name}
    target = STUDIES / name
    target.mkdir(parents=True, exist_ok=True)
    own = {"kind": kind, "dataset": dataset, "split": split, "command": command, "version": __version__}
    record = {**own, "commit": _commit(), "report": without_places(report)}
    write_text(target / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    shutil.copyfile(source / table, target / TABLE)
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
    """Return the commit of the working tree, with a plus behind it where its code has changes."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HOME, capture_output=True, text=True, check=True)
    command = ["git", "status", "--porcelain", "--untracked-files=no", "--", "custom_networks", "bundles/*/configs"]
    changed = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True)
    return head.stdout.strip() + "+" * bool(changed.stdout.strip())
