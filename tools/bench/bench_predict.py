"""Whole commands from Enter to the last mask, by each engine, beside MONAI's own run: one crop, all cases of a fold."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import find_bundle
from tools.bench.bench import check_repeats
from tools.bench.measure import processor
from tools.bench.publish import check_section, publish

IMPORT = "import monai.bundle"
RUN = "monai.bundle run"
WAYS: dict[str, dict[str, Any] | None] = {
    IMPORT: None,
    RUN: {},
    "predict, torch": {"engine": "torch"},
    "predict, torch, float32": {"engine": "torch", "amp": False},
    "predict, openvino": {"engine": "openvino"},
    "predict, openvino, float32": {"engine": "openvino", "amp": False},
}
"""Knobs by what the table calls them; the first imports only, the second is the command before ``predict``."""
OF_ENSEMBLES = ("predict, torch", "predict, openvino")
"""Those of an ensemble."""


def command_of(way: str, bundles: Sequence[Path], images: Path, out: Path) -> list[str]:
    """Return the command of a way.

    Args:
        way: key of :data:`WAYS`.
        bundles: folders of the bundles, of which ``predict`` takes several as an ensemble.
        images: a file, or a folder of images.
        out: folder for the results.
    """
    if way == IMPORT:
        return [sys.executable, "-c", IMPORT]
    if way == RUN:
        (bundle,) = bundles
        config = ["--config_file", str(bundle / "configs" / "inference.json"), "--bundle_root", str(bundle)]
        places = ["--dataset_dir", str(images), "--output_dir", str(out)]
        return [sys.executable, "-m", "monai.bundle", "run", *config, *places]
    profile = out.with_name(f"{out.name}.json")
    profile.write_text(json.dumps(WAYS[way]))
    arguments = [str(images), "--out", str(out), "--profile", str(profile)]
    arguments += [argument for bundle in bundles for argument in ("--bundle", str(bundle))]
    return [sys.executable, "-m", "custom_networks", "predict", *arguments]


def seconds_of(command: Sequence[str]) -> float:
    """Run a command and return how long it took.

    Args:
        command: the command.

    Raises:
        ValueError: if it fails.
    """
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise ValueError(f"{' '.join(command)} failed: {last}")
    return seconds


def dice_of(masks: Path, labels: Path, names: Sequence[str], classes: Sequence[str]) -> dict[str, float]:
    """Return the mean Dice of every class over cases.

    Args:
        masks: folder with ``<case>_seg.nii.gz``.
        labels: folder with ``<case>.nii.gz``.
        names: the cases.
        classes: names of the values 1, 2, ...
    """
    import numpy as np

    from custom_networks.workflow.data.volumes import read_volume
    from custom_networks.workflow.report.overlay import dice

    found: dict[str, list[float]] = {name: [] for name in classes}
    for case in names:
        mask, label = (
            np.asarray(read_volume(file, labels=True))
            for file in (masks / f"{case}_seg.nii.gz", labels / f"{case}.nii.gz")
        )
        for value, name in enumerate(classes, start=1):
            found[name].append(dice(mask == value, label == value))
    return {name: statistics.fmean(values) for name, values in found.items()}


def bench_predict(
    *bundles: str,
    dataset_dir: str = "data/Task04_Hippocampus",
    fold: int = 0,
    repeats: int = 5,
    output: str = "docs/benchmarks/predict.json",
    markdown: str | None = "docs/benchmarks.md",
) -> dict[str, Any]:
    """Time whole commands: one crop, and all cases that a fold holds back, with the Dice of their masks.

    The ways take turns. One crop: the median over ``repeats`` processes after one that fills the caches of file system
    and engine; all cases: one process.

    Args:
        bundles: names or folders of segmentation bundles.
        dataset_dir: folder of the Decathlon data set.
        fold: whose cases are segmented, by the bundle's own folds.
        repeats: rounds of one crop, at least 1.
        output: JSON file to write.
        markdown: Markdown file in which the text between ``<!-- predict:start -->`` and ``<!-- predict:end -->`` is
            replaced by the table; none if None.

    Raises:
        ValueError: if an argument is out of range, or a command fails.
        FileNotFoundError: if the Markdown file or the data set does not exist.
    """
    from custom_networks.bundle_folder import read_config
    from custom_networks.workflow.data.folds import read_folds

    if not bundles:
        raise ValueError("no bundle given; name one or more segmentation bundles")
    check_repeats(repeats)
    check_section(markdown, "predict")
    root = Path(dataset_dir).resolve()
    rows = []
    folders = [find_bundle(name) for name in bundles]
    for members in [*([folder] for folder in folders), *([folders] if len(folders) > 1 else [])]:
        bundle = members[0]
        cases = list(read_folds(bundle / "configs" / "folds.json")[fold][1])
        classes = read_config(bundle, "inference").get_parsed_content("label_names")[1:]
        with tempfile.TemporaryDirectory() as scratch:
            images = Path(scratch) / "images"
            images.mkdir()
            for case in cases:
                (images / f"{case}.nii.gz").symlink_to(root / "imagesTr" / f"{case}.nii.gz")
            rows += _rows(members, images, root / "labelsTr", cases, classes, repeats, Path(scratch))
    report = {"processor": processor("cpu"), "cpus": os.cpu_count(), "repeats": repeats, "fold": fold, "rows": rows}
    publish(report, format_table(report), output, markdown, "predict")
    return report


def _rows(
    bundles: Sequence[Path],
    images: Path,
    labels: Path,
    cases: Sequence[str],
    classes: Sequence[str],
    repeats: int,
    scratch: Path,
) -> list[dict[str, Any]]:
    one = images / f"{cases[0]}.nii.gz"
    name = bundles[0].name if len(bundles) == 1 else f"all {len(bundles)}, an ensemble"
    ways = WAYS if len(bundles) == 1 else OF_ENSEMBLES
    rounds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(repeats + 1):
        for index, way in enumerate(ways):
            seconds = seconds_of(command_of(way, bundles, one, scratch / f"one_{number}_{index}"))
            if number:
                rounds[way].append(seconds)
        print(f"{name}, round {number}/{repeats} of one crop", flush=True)
    rows = []
    for index, (way, seconds_of_one) in enumerate(rounds.items()):
        row: dict[str, Any] = {"bundle": name, "way": way, "one": statistics.median(seconds_of_one)}
        row["rounds"] = seconds_of_one
        if way != IMPORT:
            out = scratch / f"all_{index}"
            row["all"], row["cases"] = seconds_of(command_of(way, bundles, images, out)), len(cases)
            row["dice"] = dice_of(out, labels, cases, classes)
            print(f"{name}, {way}: {row['all']:.1f} s for {len(cases)} cases", flush=True)
        rows.append(row)
    return rows


def format_table(report: dict[str, Any]) -> str:
    """Render a report as a Markdown table.

    Args:
        report: what :func:`bench_predict` returns.
    """
    lines = ["| bundle | command | one crop, s | all cases, s | Dice |", "|---|---|---|---|---|"]
    last = ""
    for row in report["rows"]:
        dice = ", ".join(f"{name} {value:.4f}" for name, value in row.get("dice", {}).items())
        every = f"{row['all']:.1f} ({row['cases']})" if "all" in row else ""
        name = f"`{row['bundle']}`" if row["bundle"] != last else ""
        lines.append(f"| {name} | {row['way']} | {row['one']:.2f} | {every} | {dice} |")
        last = row["bundle"]
    lines += [
        "",
        f"Whole commands, from Enter to the last file, {report['processor']}, {report['cpus']} processors; one crop: "
        f"medians of {report['repeats']} processes that take turns; all cases: those that fold {report['fold']} holds "
        "back, in brackets their number, in one process.",
    ]
    return "\n".join(lines)
