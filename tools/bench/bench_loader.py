"""Processor time of a training sample: the recipe's, the same in MONAI's transforms one by one, and nnU-Net's own."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.bench.bench import check_repeats
from tools.bench.loader_cases import CASES, OURS_TURNED, SHAPE
from tools.bench.publish import check_section, publish

ROOT = Path(__file__).parents[2]
NNUNET = ".venv-nnunet/bin/python"
SIZES = (64, 96, 128)
SAMPLES = (120, 80, 60)
NNUNET_TURNED = 0.36
"""Share of the patches that nnU-Net's trainer turns or scales: each of the two in one of five."""
WAYS: dict[str, tuple[str, float | None]] = {
    "nnU-Net, its own chances": ("nnunet_samples.py", None),
    "recipe, turned as often": ("our_samples.py", NNUNET_TURNED),
    "nnU-Net, turned as often as in the recipe": ("nnunet_samples.py", OURS_TURNED),
    "recipe": ("our_samples.py", OURS_TURNED),
    "recipe, MONAI's transforms one after the other": ("our_samples.py", None),
}
"""Script and share of turned patches by what the table calls them; None is what the script takes by itself."""


def bench_loader(
    *,
    python: str = NNUNET,
    repeats: int = 3,
    output: str = "docs/benchmarks/loader.json",
    markdown: str | None = "docs/benchmarks.md",
) -> dict[str, Any]:
    """Take the processor's time per sample of a training, from volumes in memory to a batch of two patches.

    Every figure is the median over ``repeats`` fresh processes of one thread, which take turns.

    Args:
        python: the Python of an environment that holds nnU-Net; ``make venv-nnunet`` makes that of the default.
        repeats: rounds, at least 1.
        output: JSON file to write.
        markdown: Markdown file in which the text between ``<!-- loader:start -->`` and ``<!-- loader:end -->`` is
            replaced by the table; none if None.

    Raises:
        ValueError: if an argument is out of range, or a process ends early.
        FileNotFoundError: if the Markdown file or the Python does not exist.
    """
    check_repeats(repeats)
    check_section(markdown, "loader")
    if not Path(python).is_file():
        raise FileNotFoundError(f"{python} does not exist; run make venv-nnunet, or give the Python that has nnU-Net")
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(repeats):
        for way, (script, turned) in WAYS.items():
            interpreter = python if script.startswith("nnunet") else sys.executable
            rounds[way].append(draw(interpreter, script, turned))
            said = ", ".join(f"{size}^3 {one:.4f} s" for size, one in rounds[way][-1]["seconds"].items())
            print(f"round {number + 1}/{repeats}  {way}: {said}", flush=True)
    first, ours = rounds["nnU-Net, its own chances"][0], rounds["recipe"][0]
    report: dict[str, Any] = {
        "machine": {"system": platform.system(), "architecture": platform.machine(), "processor": ours["processor"]},
        "versions": {**ours["versions"], **first["versions"]},
        "nnunet_transforms": first["transforms"],
        "shape": list(SHAPE),
        "cases": CASES,
        "samples": dict(zip(map(str, SIZES), SAMPLES, strict=True)),
        "repeats": repeats,
        "rows": [{"way": way, "turned": WAYS[way][1], **summary(results)} for way, results in rounds.items()],
    }
    publish(report, format_table(report), output, markdown, "loader")
    return report


def draw(python: str, script: str, turned: float | None) -> dict[str, Any]:
    """Return what one of the scripts beside this module says.

    Args:
        python: the interpreter that runs it.
        script: its name.
        turned: see ``WAYS``.

    Raises:
        ValueError: if it ends early.
    """
    job = {"sizes": SIZES, "samples": SAMPLES, "turned": turned}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [python, str(Path(__file__).with_name(script)), json.dumps(job)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        raise ValueError(f"{script} ended early with {python} ({last}); install what it names there")
    said: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return said


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the rounds of a row, and the rounds.

    Args:
        rounds: what :func:`draw` returns.
    """
    sizes = list(rounds[0]["seconds"])
    return {
        "seconds": {size: statistics.median(one["seconds"][size] for one in rounds) for size in sizes},
        "rounds": [one["seconds"] for one in rounds],
    }


def format_table(report: dict[str, Any]) -> str:
    """Render a report as a Markdown table, every figure with its ratio to nnU-Net's in the first row.

    Args:
        report: what :func:`bench_loader` returns.
    """
    sizes = list(report["samples"])
    lines = [
        f"| samples | turned or scaled | {' | '.join(f'{size}^3, s' for size in sizes)} |",
        f"|---|---|{'---|' * len(sizes)}",
    ]
    first = report["rows"][0]["seconds"]
    for row in report["rows"]:
        nnunet = row["way"].startswith("nnU-Net")
        share = row["turned"] or (NNUNET_TURNED if nnunet else OURS_TURNED)
        cells = [f"{row['seconds'][size]:.4f} ({row['seconds'][size] / first[size]:.2f}x)" for size in sizes]
        lines.append(f"| {row['way']} | {share:.0%} | {' | '.join(cells)} |")
    versions, shape = report["versions"], " x ".join(str(n) for n in report["shape"])
    named = {"nnunetv2": "nnunetv2", "batchgeneratorsv2": "batchgeneratorsv2", "torch": "torch", "monai": "MONAI"}
    lines += [
        "",
        f"Processor seconds per sample, one thread of {report['machine']['processor']}, from volumes of {shape} voxels "
        f"in memory, batches of two; {', '.join(f'{name} {versions[key]}' for key, name in named.items())}; medians of "
        f"{report['repeats']} processes each, in brackets the ratio to the first row.",
    ]
    return "\n".join(lines)
