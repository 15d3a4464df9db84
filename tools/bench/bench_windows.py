"""Time and memory of the windows over one large image: as the bundles' defaults run them, and with less of them."""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from custom_networks.files import parse_json
from tools.bench.bench import check_device, check_repeats, conditions
from tools.bench.measure import forget_peak, in_own_process, peak_mib, processor
from tools.bench.publish import check_section, publish

PROFILE = "large_volume"
WAYS: dict[str, dict[str, Any]] = {
    "default": {"overlap": 0.5, "sw_batch_size": 1, "skip_air": False},
    "without air": {"overlap": 0.5, "sw_batch_size": 1, "skip_air": True},
}
"""Knobs by what the table calls them, the reference first; the profile of the bundle is the last row."""
KEYS = ("seconds", "peak_mib")
TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def template() -> Path:
    """Return the MNI152 head of nilearn, 197 x 233 x 189 voxels.

    Raises:
        ModuleNotFoundError: if nilearn is not installed.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'nilearn'", name="nilearn")
    return Path(spec.submodule_search_locations[0]) / TEMPLATE


def measure_windows(job: dict[str, Any]) -> dict[str, Any]:
    """Segment one image in this process: preprocessing, one window to warm up, then the inferer.

    Args:
        job: ``bundle``, ``image``, ``knobs``, ``device``, ``threads`` (None: as torch chooses) and ``mask``, the file
            for the classes.

    Returns:
        Windows run, seconds and peak of the inferer beyond what the process held, shape, versions.
    """
    import monai
    import numpy as np
    import torch
    from monai.bundle import ConfigParser
    from torch import nn

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    parser = ConfigParser()
    parser.read_config(str(Path(job["bundle"]) / "configs" / "inference.json"))
    parser.update({"bundle_root": job["bundle"], "device": job["device"], **job["knobs"]})
    network: nn.Module = parser.get_parsed_content("network").eval()
    network.load_state_dict(torch.load(Path(job["bundle"]) / "models" / "model.pt", map_location=device))
    image = parser.get_parsed_content("preprocessing")({"image": job["image"]})["image"][None].to(device)
    inferer = parser.get_parsed_content("inferer")
    run: list[int] = []
    with torch.no_grad():
        inferer(image[(slice(None), slice(None), *(slice(0, n) for n in inferer.roi_size))], network)
        network.register_forward_pre_hook(lambda _, inputs: run.append(len(inputs[0])))
        forget_peak()
        base = 0.0 if device.type == "cuda" else peak_mib("cpu")
        start = time.perf_counter()
        result = inferer(image, network)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        peak = peak_mib(job["device"]) - base
    classes = result if result.dtype == torch.uint8 else result.argmax(1, keepdim=True)
    np.save(job["mask"], classes[0, 0].to(torch.uint8).cpu().numpy())
    return {
        "windows": sum(run),
        "seconds": seconds,
        "peak_mib": peak,
        "shape": list(image.shape[2:]),
        "dtype": "bfloat16 where the device has it" if parser.get("amp") else "float32",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "processor": processor(job["device"]),
    }


def agreement(mask: Path, reference: Path) -> float:
    """Return the Dice overlap of what is not background in two masks with the same class.

    Args:
        mask: NumPy file.
        reference: the same of the first way.
    """
    import numpy as np

    one, other = np.load(mask), np.load(reference)
    foreground = int((one > 0).sum() + (other > 0).sum())
    return 2 * int(((one == other) & (one > 0)).sum()) / foreground if foreground else 1.0


def bench_windows(
    *bundles: str,
    image: str | None = None,
    repeats: int = 1,
    output: str = "docs/benchmarks/windows.json",
    markdown: str | None = "docs/benchmarks.md",
    device: str = "cpu",
    threads: int | None = None,
) -> dict[str, Any]:
    """Time the windows of bundles over a large image and take their peak memory.

    As their defaults have it, without the windows of air alone, and with the profile ``large_volume``. Every figure is
    the median over ``repeats`` fresh processes, which take turns. Seconds: the inferer alone, neither reading nor
    resampling nor writing, after one window that warms up. Memory on a CPU: peak resident memory beyond what the
    process held before; on a GPU: the peak of CUDA's allocator, image and weights included.

    Args:
        bundles: folders of segmentation bundles.
        image: the image; the MNI152 head of nilearn if None.
        repeats: rounds, at least 1.
        output: JSON file to write.
        markdown: Markdown file in which the text between ``<!-- windows:start -->`` and ``<!-- windows:end -->`` is
            replaced by the table; none if None.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads; as torch chooses if None.

    Raises:
        ValueError: if an argument is out of range, or a bundle cannot segment the image.
        FileNotFoundError: if the Markdown file, the image or a bundle's profile does not exist.
        ModuleNotFoundError: if nilearn is needed and not installed.
    """
    if not bundles:
        raise ValueError("no bundle given; name one or more segmentation bundles")
    check_repeats(repeats)
    check_device(device)
    check_section(markdown, "windows")
    file = template() if image is None else Path(image)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give an image file")
    rows: list[dict[str, Any]] = [
        {"bundle": Path(bundle).name, "way": way, "knobs": knobs, "rounds": []}
        for bundle in bundles
        for way, knobs in (WAYS | {PROFILE: read_profile(Path(bundle))}).items()
    ]
    folders = {Path(bundle).name: str(Path(bundle).resolve()) for bundle in bundles}
    with tempfile.TemporaryDirectory() as temporary:
        masks = [Path(temporary) / f"{i}.npy" for i in range(len(rows))]
        for number in range(repeats):
            for row, mask in zip(rows, masks, strict=True):
                common = {"image": str(file.resolve()), "device": device, "threads": threads, "mask": str(mask)}
                job = {"bundle": folders[row["bundle"]], "knobs": row["knobs"], **common}
                name = f"{row['bundle']}, {row['way']}"
                (result,) = in_own_process([job], name, by=f"{__name__}:measure_windows")
                row["rounds"].append(result)
                said = f"{result['windows']} windows, {result['seconds']:.1f} s, {result['peak_mib']:.0f} MiB"
                print(f"round {number + 1}/{repeats}  {name}: {said}", flush=True)
        for i, row in enumerate(rows):
            first = next(k for k, other in enumerate(rows) if other["bundle"] == row["bundle"])
            row["dice"] = agreement(masks[i], masks[first])
    one = rows[0]["rounds"][0]
    report: dict[str, Any] = {**conditions(one, device), "image": file.name, "shape": one["shape"], "repeats": repeats}
    report["rows"] = [summary(row) for row in rows]
    publish(report, format_table(report), output, markdown, "windows")
    return report


def read_profile(bundle: Path) -> dict[str, Any]:
    """Return the knobs of a bundle's profile for large volumes.

    Args:
        bundle: its folder.

    Raises:
        FileNotFoundError: if it has none.
    """
    file = bundle / "configs" / "profiles" / f"{PROFILE}.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give the folder of a segmentation bundle")
    return dict(parse_json(file.read_text(), str(file)))


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the medians over its rounds.

    Args:
        row: bundle, way, knobs, Dice and the results of :func:`measure_windows`.
    """
    rounds = row["rounds"]
    return {
        **{key: row[key] for key in ("bundle", "way", "knobs", "dice")},
        "windows": rounds[0]["windows"],
        **{key: statistics.median(one[key] for one in rounds) for key in KEYS},
        "rounds": [{key: one[key] for key in KEYS} for one in rounds],
    }


def format_table(report: dict[str, Any]) -> str:
    """Render a report as a Markdown table, every figure with its ratio to the bundle's first row.

    Args:
        report: what :func:`bench_windows` returns.
    """
    lines = [
        "| bundle | windows over | windows run | seconds | peak, MiB | Dice with the first |",
        "|---|---|---|---|---|---|",
    ]
    first: dict[str, Any] = {}
    for row in report["rows"]:
        if row["bundle"] != first.get("bundle"):
            first = row
        cells = [f"`{row['bundle']}`" if row is first else "", row["way"]]
        for key, form in (("windows", "d"), ("seconds", ".1f"), ("peak_mib", ".0f")):
            cells.append(f"{row[key]:{form}} ({row[key] / max(first[key], 1e-9):.2f}x)")
        lines.append(f"| {' | '.join(cells)} | {row['dice']:.4f} |")
    size = " x ".join(str(n) for n in report["shape"])
    lines += [
        "",
        f"`{report['image']}`, {size} voxels, {report['dtype']}, {report['machine']['processor']} ({report['device']}, "
        f"{report['threads']} threads), torch {report['torch']}, MONAI {report['monai']}; medians of "
        f"{report['repeats']} processes each, in brackets the ratio to the bundle's default.",
    ]
    return "\n".join(lines)
