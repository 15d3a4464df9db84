"""Time and memory of any networks against each other, each in its own process."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.files import parse_json
from tools.bench.measure import in_own_process
from tools.bench.publish import check_section, publish

MEASURES = ("forward_seconds", "step_seconds", "forward_peak_mib", "step_peak_mib")


def read_network(spec: str | dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that holds ``network_def``, ready to be sent to another process.

    Args:
        spec: a bundle folder, a JSON file with a ``network_def`` (references allowed), a JSON object with
            ``_target_``, or the same as a dict.

    Raises:
        ValueError: if there is no ``network_def`` with a ``_target_`` in it.
        FileNotFoundError: if the file or folder does not exist.
    """
    config: Any = spec
    where = "the network given inline"
    if isinstance(spec, str) and spec.lstrip().startswith("{"):
        config = parse_json(spec, where)
    elif isinstance(spec, str):
        file = Path(spec)
        if file.is_dir():
            file = file / "configs" / "train.json"
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; give a bundle, a JSON file or an inline JSON object")
        where = str(file)
        config = parse_json(file.read_text(), where)
        if isinstance(config, dict) and file.parent.name == "configs":
            config["bundle_root"] = str(file.resolve().parents[1])
    if isinstance(config, dict) and "_target_" in config:
        config = {"network_def": config}
    network = config.get("network_def") if isinstance(config, dict) else None
    if not isinstance(network, dict) or "_target_" not in network:
        raise ValueError(f"{where} holds no network_def with a _target_; add one, as in a bundle's train.json")
    return dict(config)


def read_shape(shape: str | Sequence[int]) -> tuple[int, ...]:
    """Return an input shape as integers.

    Args:
        shape: batch, channels and two or three spatial sizes, as ``"1,1,96,96,96"`` or as a sequence.

    Raises:
        ValueError: if it is anything else.

    Example:
        >>> read_shape("1,1,96,96,96")
        (1, 1, 96, 96, 96)
    """
    try:
        sizes = tuple(int(s) for s in (shape.split(",") if isinstance(shape, str) else shape))
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) not in (4, 5) or min(sizes) < 1:
        raise ValueError(f"shape must be batch, channels and 2 or 3 sizes, got {shape}; use for example 1,1,96,96,96")
    return sizes


def names_of(configs: list[dict[str, Any]]) -> list[str]:
    """Return the class path of every network, numbered where two are the same."""
    targets = [str(config["network_def"]["_target_"]) for config in configs]
    return [t if targets.count(t) == 1 else f"{t} ({i + 1})" for i, t in enumerate(targets)]


def bench(
    *networks: str | dict[str, Any],
    shape: str | Sequence[int] = "1,1,96,96,96",
    repeats: int = 5,
    output: str = "bench.json",
    markdown: str | None = None,
    section: str = "bench",
    device: str = "cpu",
    amp: bool = False,
    threads: int | None = None,
) -> dict[str, Any]:
    """Time a forward pass and a training step of networks against each other and take their peak memory.

    Every figure is the median over ``repeats`` fresh processes per network, which take turns; in each process the
    median of three or more runs after a warm-up. Forward: eval mode, no gradients. Step: forward, cross-entropy,
    backward, AdamW. Memory on a CPU: peak resident memory minus its peak before the first forward pass; on a GPU: the
    peak of CUDA's allocator, weights included. MACs: half of what torch's flop counter counts.

    Args:
        networks: each a bundle folder, a JSON file with ``network_def``, or a JSON object with ``_target_``.
        shape: batch, channels, and two or three sizes in voxels.
        repeats: rounds, at least 1.
        output: JSON file to write.
        markdown: Markdown file in which the text between ``<!-- SECTION:start -->`` and ``<!-- SECTION:end -->`` is
            replaced by the table.
        section: the name in these two comments, so that a page can hold several tables; letters, digits, ``_``, ``-``.
        device: ``cpu`` or ``cuda``.
        amp: autocast (bfloat16; float16 on GPUs without it).
        threads: CPU threads; as torch chooses if None.

    Raises:
        ValueError: if an argument is out of range, or a network cannot be built or run.
        FileNotFoundError: if a network's file or the Markdown file does not exist.
    """
    if not networks:
        raise ValueError("no network given; name one or more bundles, JSON files or JSON objects")
    check_repeats(repeats)
    sizes = read_shape(shape)
    check_section(markdown, section)
    check_device(device)
    configs = [read_network(network) for network in networks]
    names = names_of(configs)
    common = {"shape": sizes, "device": device, "amp": bool(amp), "threads": threads, "inner": False}
    runs = take_turns([[{"config": config, **common}] for config in configs], names, repeats)
    report: dict[str, Any] = {
        **conditions(runs[0][0][0], device),
        "shape": list(sizes),
        "repeats": repeats,
        "networks": [{"name": name, **summary(own[0])} for name, own in zip(names, runs, strict=True)],
    }
    for entry in report["networks"]:
        entry["ratio"] = ratios(entry, report["networks"][0])
    publish(report, format_table(report), output, markdown, section)
    return report


def take_turns(jobs: list[list[dict[str, Any]]], names: list[str], repeats: int) -> list[list[list[dict[str, Any]]]]:
    """Measure each list of jobs in ``repeats`` fresh processes; the lists take turns, in an order that alternates.

    Args:
        jobs: lists of jobs as :func:`tools.bench.measure.measure` takes them.
        names: one name per list.
        repeats: rounds.

    Returns:
        For each list and each of its jobs, the results of all rounds.
    """
    runs: list[list[list[dict[str, Any]]]] = [[[] for _ in own] for own in jobs]
    for round_number in range(repeats):
        order = range(len(jobs)) if round_number % 2 == 0 else reversed(range(len(jobs)))
        for i in order:
            for results, result in zip(runs[i], in_own_process(jobs[i], names[i]), strict=True):
                results.append(result)
                seconds = f"{result['forward_seconds']:.3f} s forward, {result['step_seconds']:.3f} s step"
                print(f"round {round_number + 1}/{repeats}  {names[i]}: {seconds}", flush=True)
    return runs


def conditions(result: dict[str, Any], device: str) -> dict[str, Any]:
    """Return the machine and versions under which a result was measured.

    Args:
        result: what :func:`tools.bench.measure.measure` returns.
        device: as it was asked for.
    """
    machine = {"system": platform.system(), "architecture": platform.machine(), "processor": result["processor"]}
    versions = {key: result[key] for key in ("torch", "monai", "threads", "dtype")}
    return {"machine": machine, "device": device, "python": platform.python_version(), **versions}


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the rounds of one job, and the rounds.

    Args:
        rounds: results of :func:`tools.bench.measure.measure`.
    """
    return {
        **{key: rounds[0][key] for key in ("network_def", "parameters", "gmacs")},
        **{key: statistics.median(result[key] for result in rounds) for key in MEASURES},
        "rounds": [{key: result[key] for key in MEASURES} for result in rounds],
    }


def ratios(entry: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """Return each figure of an entry divided by that of the reference.

    Args:
        entry: what :func:`summary` returns.
        reference: the same of the reference.
    """
    keys = ("parameters", "gmacs", *MEASURES)
    return {key: entry[key] / reference[key] if reference[key] else math.nan for key in keys}


def check_repeats(repeats: int) -> None:
    """Refuse a number of rounds below one.

    Args:
        repeats: rounds.

    Raises:
        ValueError: if it is no positive integer.
    """
    if not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"repeats must be an integer of at least 1, got {repeats}; use for example 5")


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: if torch does not know the device or cannot see it.
    """
    import torch

    kind = str(device).split(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"device {device} is not available here; use --device cpu")


def format_table(report: dict[str, Any]) -> str:
    """Render a report as a Markdown table, every figure with its ratio to the first network.

    Args:
        report: what :func:`bench` returns.
    """
    lines = [
        "| network | parameters | GMACs | forward, s | step, s | forward peak, MiB | step peak, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    formats = {"parameters": ",d", "gmacs": ".2f", "forward_seconds": ".3f", "step_seconds": ".3f"}
    for entry in report["networks"]:
        cells = [f"`{entry['name']}`"]
        for key in ("parameters", "gmacs", *MEASURES):
            cells.append(f"{entry[key]:{formats.get(key, '.0f')}} ({entry['ratio'][key]:.2f}x)")
        lines.append(f"| {' | '.join(cells)} |")
    size = " x ".join(str(s) for s in report["shape"])
    lines += [
        "",
        f"Input {size}, {report['dtype']}, {report['machine']['processor']} ({report['device']}, {report['threads']} "
        f"threads), torch {report['torch']}, MONAI {report['monai']}; medians of {report['repeats']} processes each, "
        "in brackets the ratio to the first network.",
    ]
    return "\n".join(lines)
