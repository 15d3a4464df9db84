"""Time and memory of the gated axial layer against a direct transcription of its formula."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tools.bench.bench import check_device, check_repeats, conditions, summary, take_turns
from tools.bench.publish import check_section, publish
from tools.pictures.axial_report import save_plot, tables

LAYER = "custom_networks.blocks.GatedAxialAttention"
REFERENCE = "tests.references.axial_layer.DirectAxialAttention"
NUM_HEADS = 8
CHANNELS = (16, 64)
LENGTHS = (24, 48, 64, 96)
CUBES = (16, 24, 32, 48, 64)
WHOLE = 2**40
FORMS: dict[str, dict[str, Any]] = {
    "logits by 2^16": {"max_logits": 2**16},
    "logits by 2^18": {"max_logits": 2**18},
    "logits by 2^20": {"max_logits": 2**20},
    "logits by 2^22 (default)": {},
    "all logits at once": {"max_logits": WHOLE},
    "logits by 2^22, checkpointing": {"checkpointing": True},
    "logits by 2^20, checkpointing": {"max_logits": 2**20, "checkpointing": True},
}
"""Ways to compute the layer, by what a table calls them."""
CHOSEN = "logits by 2^22 (default)"
LIGHT = "logits by 2^22, checkpointing"
KEYS = ("step_seconds", "step_peak_mib")


def definition(target: str, channels: int, length: int, **options: Any) -> dict[str, Any]:
    """Return the configuration of a layer that attends along the last axis.

    Args:
        target: class path.
        channels: channels in and out.
        length: voxels of that axis, for which the tables are made.
        **options: further arguments of the class.
    """
    common = {"spatial_dims": 3, "in_channels": channels, "axis": 2, "position_length": length, "num_heads": NUM_HEADS}
    return {"_target_": target, **common, **options}


def rows(
    lengths: Sequence[int], channels: Sequence[int], cubes: Sequence[int], depth: int, form_length: int, reference: str
) -> list[dict[str, Any]]:
    """Return what is measured: part of the report, name, shape of the input and network of every row.

    Args:
        lengths: voxels of the axis.
        channels: channels.
        cubes: voxels per axis of the volumes of the plot.
        depth: slices of the slab that lengths and forms are measured on.
        form_length: the length at which the forms are compared.
        reference: class path of the transcription.
    """
    found = []

    def add(part: str, name: str, width: int, size: tuple[int, int, int], target: str, **options: Any) -> None:
        network = definition(target, width, size[2], **options)
        found.append({"part": part, "name": name, "shape": [1, width, *size], "network_def": network})

    for width in channels:
        for length in lengths:
            add("lengths", "layer", width, (depth, length, length), LAYER)
            add("lengths", "reference", width, (depth, length, length), reference)
    for width in channels:
        slab = (depth, form_length, form_length)
        add("forms", "reference", width, slab, reference)
        for name, options in FORMS.items():
            add("forms", name, width, slab, LAYER, **options)
    for n in cubes:
        add("cubes", "reference", channels[0], (n, n, n), reference)
        for name in (CHOSEN, LIGHT):
            add("cubes", name, channels[0], (n, n, n), LAYER, **FORMS[name])
    return found


def bench_axial(
    *,
    lengths: Sequence[int] = LENGTHS,
    channels: Sequence[int] = CHANNELS,
    cubes: Sequence[int] = CUBES,
    depth: int = 8,
    form_length: int = 64,
    repeats: int = 3,
    reference: str = REFERENCE,
    output: str = "docs/benchmarks/axial.json",
    plot: str = "docs/images/axial-cost.png",
    markdown: str | None = "docs/benchmarks.md",
    device: str = "cpu",
    amp: bool = False,
    threads: int | None = None,
) -> dict[str, Any]:
    """Measure a training step of the gated axial layer and of a direct transcription of its formula, side by side.

    One sample, 8 heads, attention along the last axis. Every figure is the median over ``repeats`` fresh processes,
    which take turns; in each the median of three or more steps after a warm-up. Step: forward, mean square of the
    output, backward to the input and the parameters, AdamW. Memory: peak of what torch allocates for tensors in a step,
    with gradients and AdamW's state. Three comparisons: axis lengths and forms of the computation, both on a slab of
    ``depth`` slices, and cubes, with a plot of time and memory against the volume.

    Args:
        lengths: voxels of the axis, comma separated; the slab is as wide.
        channels: channels, comma separated; the first for the cubes.
        cubes: voxels per axis of the cubes, comma separated.
        depth: slices of the slab.
        form_length: length at which the forms are compared.
        repeats: rounds, at least 1.
        reference: class path of the transcription, a layer that takes ``spatial_dims``, ``in_channels``, ``axis``,
            ``position_length`` and ``num_heads``.
        output: JSON file to write.
        plot: PNG file to write.
        markdown: Markdown file in which the text between ``<!-- axial:start -->`` and ``<!-- axial:end -->`` is
            replaced by the tables; none if None.
        device: ``cpu`` or ``cuda``.
        amp: autocast (bfloat16; float16 on GPUs without it).
        threads: CPU threads; as torch chooses if None.

    Raises:
        ValueError: if an argument is out of range, the reference does not exist, or a layer cannot be run.
        FileNotFoundError: if the Markdown file does not exist.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    check_repeats(repeats)
    check_device(device)
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    numbers: dict[str, Any] = {
        "lengths": lengths,
        "channels": channels,
        "cubes": cubes,
        "depth": depth,
        "form_length": form_length,
    }
    sizes = {name: check_numbers(name, value) for name, value in numbers.items()}
    check_class(reference)
    check_section(markdown, "axial")
    measured = rows(
        sizes["lengths"], sizes["channels"], sizes["cubes"], sizes["depth"][0], sizes["form_length"][0], reference
    )
    common = {"device": device, "amp": bool(amp), "threads": threads, "inner": True}
    jobs = [[{"config": {"network_def": row["network_def"]}, "shape": row["shape"], **common}] for row in measured]
    names = [f"{row['name']} on {' x '.join(map(str, row['shape']))}" for row in measured]
    runs = take_turns(jobs, names, repeats)
    report: dict[str, Any] = {**conditions(runs[0][0][0], device), "num_heads": NUM_HEADS, "repeats": repeats}
    for part in ("lengths", "forms", "cubes"):
        report[part] = []
    for row, own in zip(measured, runs, strict=True):
        report[row["part"]].append({"name": row["name"], "shape": row["shape"], **summary(own[0])})
    save_plot(report, Path(plot))
    publish(report, tables(report), output, markdown, "axial")
    print(f"written: {plot}")
    return report


def check_numbers(name: str, value: Any) -> list[int]:
    """Return positive integers as a list.

    Args:
        name: what they are, for the error.
        value: one or several of them.

    Raises:
        ValueError: if it is anything else.

    Example:
        >>> check_numbers("lengths", (24, 48))
        [24, 48]
    """
    numbers = list(value) if isinstance(value, tuple | list) else [value]
    if not numbers or any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in numbers):
        raise ValueError(f"{name} must be positive integers, got {value}; use for example 24,48")
    return numbers


def check_class(path: str) -> None:
    """Refuse a class path whose module is not there.

    Args:
        path: module path, dot, class name.

    Raises:
        ValueError: if the module cannot be found.
    """
    module, _, name = str(path).rpartition(".")
    try:
        known = bool(module and name) and find_spec(module) is not None
    except ModuleNotFoundError:
        known = False
    if not known:
        raise ValueError(f"reference must be the path of a class, got {path}; use for example {REFERENCE}")
