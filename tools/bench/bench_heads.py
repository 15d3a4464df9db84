"""The whole command for a head beside the import that every command of MONAI's takes, and the registration in it."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import find_bundle, read_config
from tools.bench.bench import check_repeats
from tools.bench.bench_predict import IMPORT, command_of, seconds_of
from tools.bench.measure import processor
from tools.bench.publish import check_section, publish

REGISTRATION = "registration"


def bench_heads(
    image: str,
    *bundles: str,
    repeats: int = 3,
    output: str = "docs/benchmarks/heads.json",
    markdown: str | None = "docs/benchmarks.md",
) -> dict[str, Any]:
    """Time ``predict`` of one whole head by each bundle, and ``import monai.bundle``, which both commands begin with.

    Processes take turns; the first round, which fills the caches, does not count. The registration is timed in this
    process, round by round.

    Args:
        image: a whole head.
        bundles: names or folders of bundles that segment whole heads.
        repeats: rounds, at least 1.
        output: JSON file to write.
        markdown: Markdown file in which the text between ``<!-- heads:start -->`` and ``<!-- heads:end -->`` is
            replaced by the table; none if None.

    Raises:
        ValueError: if an argument is out of range, or a command fails.
        FileNotFoundError: if the Markdown file or the image does not exist.
    """
    if not bundles:
        raise ValueError("no bundle given; name one or more that segment whole heads")
    check_repeats(repeats)
    check_section(markdown, "heads")
    folders, file = [find_bundle(name) for name in bundles], Path(image).resolve()
    if not file.is_file():
        raise FileNotFoundError(f"there is no image {image}; give a T1 image of a whole head")
    rounds: dict[str, list[float]] = {name: [] for name in (IMPORT, REGISTRATION, *(one.name for one in folders))}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(repeats + 1):
            seconds = {IMPORT: seconds_of(command_of(IMPORT, [], file, Path(scratch)))}
            seconds[REGISTRATION] = _registration(folders[0], file)
            for folder in folders:
                out = Path(scratch) / f"{folder.name}_{number}"
                seconds[folder.name] = seconds_of([*command_of("predict, torch", [folder], file, out), "--head"])
            print(f"round {number}/{repeats}", flush=True)
            if number:
                for name, value in seconds.items():
                    rounds[name].append(value)
    rows = [{"name": name, "median": statistics.median(values), "rounds": values} for name, values in rounds.items()]
    report = {
        "processor": processor("cpu"),
        "cpus": os.cpu_count(),
        "repeats": repeats,
        "image": file.name,
        "rows": rows,
    }
    publish(report, format_table(report), output, markdown, "heads")
    return report


def _registration(bundle: Path, image: Path) -> float:
    """Return how long it takes to find a bundle's places in a head that has been read."""
    import nibabel as nib
    import numpy as np

    locate = read_config(bundle, "inference_head").get_parsed_content("locate")
    file: Any = nib.as_closest_canonical(nib.load(image))
    voxels = np.asarray(file.dataobj, dtype=np.float32)
    start = time.perf_counter()
    locate(voxels, file.affine)
    return time.perf_counter() - start


def format_table(report: dict[str, Any]) -> str:
    """Render a report as a Markdown table.

    Args:
        report: what :func:`bench_heads` returns.
    """
    medians = {row["name"]: row["median"] for row in report["rows"]}
    lines = ["| what | seconds | more than the import |", "|---|---|---|"]
    for name, seconds in medians.items():
        beside = name in (IMPORT, REGISTRATION)
        more = "" if beside else f"{seconds - medians[IMPORT]:+.2f}"
        lines.append(f"| {name if beside else f'`{name}`'} | {seconds:.2f} | {more} |")
    lines += [
        "",
        f"`custom_networks predict {report['image']} --head`, from Enter to the last file, {report['processor']}, "
        f"{report['cpus']} processors; medians of {report['repeats']} processes that take turns. The registration, "
        "timed by itself, is a part of each.",
    ]
    return "\n".join(lines)
