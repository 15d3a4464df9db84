"""From the arguments of ``compare`` to its files."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from custom_networks import __version__
from custom_networks.adapt.draft import format_sizes
from custom_networks.compare.against import find_outside, rows_of_outside, write_splits
from custom_networks.compare.entries import find_entries
from custom_networks.compare.fits import Fit, common_patch, fit
from custom_networks.compare.picture import draw
from custom_networks.compare.plan import SEARCH_SHARE, Budget, cases_of, check_folds, common_knobs, patients_of
from custom_networks.compare.request import Request
from custom_networks.compare.search import notes_of_search
from custom_networks.compare.table import as_json, as_markdown, lines_of, sentence
from custom_networks.compare.trainings import (
    PACE,
    REPORT,
    Study,
    learning_rates,
    rows_of,
    run_trainings,
    search_of,
    train_seconds,
)
from custom_networks.files import read_json, write_text
from custom_networks.studies.side_by_side import Seat, seats
from custom_networks.workflow.memory.bill import format_bytes
from custom_networks.workflow.report.statistics import TOLERANCE

PACKAGES = ("monai", "torch", "numpy", "scipy")
REQUEST = "comparison_request.json"
NAME = "comparison"


def run_comparison(
    profile: Path,
    names: Sequence[str],
    folder: Path,
    request: Request,
    *,
    alone: bool,
    devices: str | None,
    against: Sequence[Path] = (),
    nnunet: Path | None = None,
) -> None:
    """Run a comparison, or what is left of it, and write its table.

    Args:
        profile: of ``adapt``.
        names: of the networks.
        folder: for everything.
        request: the numbers.
        alone: whether twins that are not named are left out.
        devices: where trainings run, in place of processors.
        against: folders of masks that were made elsewhere.
        nnunet: the folder of a trained nnU-Net.

    Raises:
        ModuleNotFoundError: if matplotlib, which draws the picture at the end, is not installed.
        ValueError: if a network is none, the folder holds another comparison, or a training failed.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    places = seats(request.jobs, devices)
    entries, outside = find_entries(names, alone), find_outside(against, nnunet, request.folds)
    if both := sorted({entry.name for entry in entries} & {own.name for own in outside}):
        raise ValueError(f"a network and a folder of masks are both called {both[0]}; rename the folder")
    knobs = common_knobs(profile)
    check_folds(knobs, [entry.bundle for entry in entries], request.folds)
    device = device_of(knobs, places)
    patch = common_patch(entries, knobs, device)
    if patch != knobs["patch_size"]:
        print(f"patch: {format_sizes(patch)}, the nearest to that of the profile that the networks divide")
    fits = fit(entries, {**knobs, "patch_size": patch}, patch, device)
    _check_request(folder, knobs, request)
    knobs |= {"patch_size": patch}
    for left_out in (entry.name for entry in entries if entry.name not in {own.entry.name for own in fits}):
        print(f"{left_out}: left out, the attention costs less than a step of the width")
    for own in fits:
        padded = f", padded to multiples of {own.divisor[0]}" if own.divisor else ""
        need = f"{own.parameters:,} parameters, {own.macs / 1e9:.2f} GMAC, a step takes {format_bytes(own.step_bytes)}"
        print(f"{own.entry.name}: {need}, {own.precision}{padded}")
    budget = Budget(request.minutes, request.steps)
    seeds = range(request.seeds)
    study = Study(folder, fits, knobs, budget, request.rates, request.folds, seeds, patients_of(knobs), places)
    logging.getLogger("custom_networks").setLevel(logging.WARNING)
    write_splits(study)
    # masks that do not fit are refused before hours of training
    others = {own.name: rows_of_outside(study, profile, own, _say) for own in outside}
    failed = run_trainings(study, _say)
    for name, error in failed.items():
        print(f"failed: {name}: {error}")
    whole = [own for own in fits if not any(_of(own, name) for name in failed)]
    if len(whole) + len(others) > 1 and whole:
        _write(study, whole, others, failed)
    if failed:
        raise ValueError(
            f"{len(failed)} of the trainings failed, {next(iter(failed))} first; the others are kept, call this again "
            "when the cause is mended"
        )


def device_of(knobs: Mapping[str, Any], places: Sequence[Seat]) -> torch.device:
    """Return the device of the trainings: that which was asked for, else the profile's, else a GPU where there is one.

    Args:
        knobs: the common knobs.
        places: where the trainings run.
    """
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(places[0].device or str(knobs.get("device", usual)))


def _say(line: str) -> None:
    print(line, flush=True)


def _of(own: Fit, name: str) -> bool:
    return name == own.entry.name or name.startswith(f"{own.entry.name}, ")


def _check_request(folder: Path, knobs: Mapping[str, Any], request: Request) -> None:
    """Write what a new comparison is of, or refuse that of another one; more networks and seeds may come later."""
    own: dict[str, Any] = {
        "knobs": dict(knobs),
        "minutes": request.minutes,
        "steps": request.steps,
        "folds": list(request.folds),
        "learning_rates": list(request.rates),
        # what runs beside a training decides how far it gets in a time
        "jobs": None if request.minutes is None else request.jobs,
    }
    file = folder / REQUEST
    folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        write_text(file, json.dumps(own, indent=1) + "\n")
        return
    before = read_json(file)
    if differing := [key for key, value in json.loads(json.dumps(own)).items() if before.get(key) != value]:
        raise ValueError(
            f"{folder} holds another comparison, {file} has other {' and '.join(differing)}; give another --out, or "
            "the same arguments"
        )


def _write(
    study: Study, fits: Sequence[Fit], others: Mapping[str, list[dict[str, Any]]], failed: Mapping[str, Exception]
) -> None:
    rows = {own.entry.name: rows_of(study, own) for own in fits} | dict(others)
    text = StringIO()
    flat = [row for own in rows.values() for row in own]
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    lines = lines_of(rows, {own.entry.name: _facts(study, own) for own in fits}, study.patient_of)
    sentences = [sentence(line, lines[0].name) for line in lines[1:]]
    sentences += [note for own in fits for note in notes_of_search(own.entry.name, study.rates, search_of(study, own))]
    if len({own.precision for own in fits}) > 1:
        sentences += [f"{own.entry.name} was trained in {own.precision}" for own in fits]
    table = as_markdown(lines)
    search = f"the best of {', '.join(f'{rate:g}' for rate in study.rates)}, each tried for {SEARCH_SHARE:.0%} of it"
    head = (
        f"{study.budget.words} for each training, folds {_list(study.folds)}, seeds {_list(study.seeds)}, patch "
        f"{format_sizes(study.knobs['patch_size'])}, batch {study.knobs['batch_size']}, learning rate "
        f"{search if len(study.rates) > 1 else f'{study.rates[0]:g}'}. Differences to {lines[0].name}; their intervals "
        "are for patients and trainings drawn anew, those of the means for patients alone."
    )
    measured = read_json(study.run_folder(fits[0], study.folds[0], study.seeds[0]) / REPORT)
    if TOLERANCE in measured:
        head += f" NSD with a tolerance of {measured[TOLERANCE]:g} mm."
    report = {
        "request": read_json(study.folder / REQUEST),
        "networks": as_json(lines),
        **{key: measured[key] for key in ("policy", TOLERANCE) if key in measured},
        "failed": {name: str(error) for name, error in failed.items()},
        "versions": {"custom_networks": __version__, **{name: version(name) for name in PACKAGES}},
    }
    write_text(study.folder / f"{NAME}.csv", text.getvalue())
    write_text(study.folder / f"{NAME}.json", json.dumps(report, indent=1) + "\n")
    listed = "\n".join(f"- {line}" for line in sentences)
    write_text(study.folder / f"{NAME}.md", f"{head}\n\n{table}\n{listed}\n\n![cost and Dice]({NAME}.png)\n")
    draw(lines, study.folder / f"{NAME}.png")
    print(f"\n{table}\n" + "\n".join(sentences))
    print(f"written: {study.folder / NAME}.csv, .json, .md and .png")


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _facts(study: Study, own: Fit) -> dict[str, Any]:
    """Return what is known of a network beside its metrics."""
    pace = read_json(study.folder_of(own) / PACE)
    validated = len(cases_of(study.knobs, own.entry.bundle, study.folds[0], "validation"))
    return {
        "bundle": own.entry.bundle.name if own.entry.own else "",
        "parameters": own.parameters,
        "macs": own.macs,
        "step_bytes": own.step_bytes,
        "precision": own.precision,
        "train_seconds": train_seconds(study, own),
        "seconds_per_image": pace["validation"] / validated,
        "learning_rates": list(learning_rates(study, own).values()),
    }
