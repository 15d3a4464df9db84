"""Time of one window by every engine that can run a bundle's network on a CPU, each in its own process."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

from custom_networks.bundle_folder import find_bundle, known_bundles, read_config
from tools.bench.bench import check_repeats
from tools.bench.measure import TIMED_RUNS, TIMED_SECONDS, processor
from tools.bench.publish import check_section, publish

ENGINES = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
)
TITLES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def bench_engines(
    *bundles: str,
    repeats: int = 3,
    threads: int | None = None,
    output: str = "docs/benchmarks/engines.json",
    markdown: str | None = None,
) -> dict[str, Any]:
    """Time one window of each bundle's trained network by PyTorch, ONNX Runtime and OpenVINO on this CPU.

    The window is noise of the size of the bundle's patch. Every figure is the median over ``repeats`` fresh processes,
    in each the median of three or more runs after one that warms up. Beside it stands how many voxels (in
    classification, images) are of another class than with PyTorch in float32. bfloat16 is left out where the processor
    does not compute in it.

    Args:
        bundles: names or folders of bundles; all where none is given.
        repeats: rounds, at least 1.
        threads: CPU threads; as torch chooses if None.
        output: JSON file to write.
        markdown: Markdown file in which the text between ``<!-- engines:start -->`` and ``<!-- engines:end -->`` is
            replaced by the table.

    Raises:
        ValueError: if there is no such bundle, or an argument is out of range.
        FileNotFoundError: if a bundle has no weights, or the Markdown file does not exist.
        ModuleNotFoundError: if a package of an engine is not installed.
    """
    check_repeats(repeats)
    check_section(markdown, "engines")
    folders = [find_bundle(name) for name in bundles] or known_bundles()
    report: dict[str, Any] = {"processor": processor("cpu"), "repeats": repeats, "bundles": []}
    report["versions"] = {name: version(name) for name in ("torch", "onnxruntime", "openvino")}
    for folder in folders:
        with tempfile.TemporaryDirectory() as name:
            graph = Path(name) / "model.onnx"
            _in_a_process(_export, folder, graph)
            entry: dict[str, Any] = {"bundle": folder.name, "window": read_config(folder, "inference")["patch_size"]}
            rounds: list[dict[str, Any]] = []
            for number in range(repeats):
                rounds.append({})
                for engine, precision in ENGINES:
                    measured = _in_a_process(_measure, folder, graph, engine, precision, threads)
                    if measured is not None:
                        rounds[-1][f"{engine} {precision}"] = measured
                        print(f"{folder.name} {number + 1}/{repeats} {engine} {precision} {measured['seconds']:.3f} s")
        entry["engines"] = _summary(rounds)
        report["threads"] = rounds[0]["torch float32"]["threads"]
        report["bundles"].append(entry)
    publish(report, format_engines(report), output, markdown, "engines")
    return report


def _in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function in a fresh process: the engines' threads and memory disturb each other."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _network(folder: Path) -> tuple[Any, Any]:
    """Return the trained network in eval mode and a window."""
    from custom_networks.workflow import load_weights
    from custom_networks.workflow.infer.engines.onnx_export import example

    parser = read_config(folder, "inference")
    network = parser.get_parsed_content("network_def").eval()
    load_weights(network, folder / "models" / "model.pt")
    return network, example(parser["in_channels"], parser["patch_size"], batch=1)


def _export(folder: Path, graph: Path) -> None:
    from custom_networks.workflow.infer.engines.onnx_export import example, write_onnx

    network, x = _network(folder)
    write_onnx(network, example(x.shape[1], x.shape[2:]), graph)


def _measure(folder: Path, graph: Path, engine: str, precision: str, threads: int | None) -> dict[str, Any] | None:
    """Return seconds and classes of one engine in this process; ``None`` if the processor lacks the precision."""
    import torch

    from custom_networks.workflow.infer.engines.openvino_runner import OpenVinoRunner, precision_of
    from custom_networks.workflow.infer.inferers import autocast_forward, has_bfloat16

    if threads:
        torch.set_num_threads(threads)
    half = precision == "bfloat16"
    network, x = _network(folder)
    if engine == "torch":
        if half and not has_bfloat16(x.device):
            return None

        def run() -> torch.Tensor:
            return autocast_forward(network, x, half)

    elif engine == "openvino":
        if half and precision_of(amp=True) != precision:
            return None
        runner = OpenVinoRunner(graph, precision, None)

        def run() -> torch.Tensor:
            return runner(x)

    else:
        onnxruntime = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

        def run() -> torch.Tensor:
            return torch.from_numpy(session.run(None, {"image": x.numpy()})[0])

    seconds: list[float] = []
    with torch.no_grad():
        classes = run().argmax(1)
        while len(seconds) < TIMED_RUNS or sum(seconds) < TIMED_SECONDS:
            before = perf_counter()
            run()
            seconds.append(perf_counter() - before)
    return {"seconds": statistics.median(seconds), "classes": classes.numpy(), "threads": torch.get_num_threads()}


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return by engine the median seconds and how many classes differ from those of PyTorch in float32."""
    reference = rounds[0]["torch float32"]["classes"]
    return {
        name: {
            "seconds": statistics.median(measured[name]["seconds"] for measured in rounds),
            "differ": int((first["classes"] != reference).sum()),
            "of": int(reference.size),
        }
        for name, first in rounds[0].items()
    }


def format_engines(report: dict[str, Any]) -> str:
    """Return the report as a Markdown table.

    Args:
        report: what :func:`bench_engines` returns.
    """
    heads = [f"{TITLES[engine]} {precision}" for engine, precision in ENGINES]
    lines = [f"| bundle | window | {' | '.join(heads)} |", f"|{'---|' * (len(heads) + 2)}"]
    for entry in report["bundles"]:
        cells = [f"`{entry['bundle']}`", " x ".join(map(str, entry["window"]))]
        for engine, precision in ENGINES:
            found = entry["engines"].get(f"{engine} {precision}")
            cells.append("-" if found is None else f"{found['seconds']:.3f} ({found['differ']})")
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{TITLES[name]} {number}" for name, number in report["versions"].items())
    lines += [
        "",
        "Seconds for one window of noise, in brackets how many voxels (in classification, images) are of another class "
        f"than with PyTorch in float32. {report['processor']}, {report['threads']} threads, {versions}; medians of "
        f"{report['repeats']} processes each.",
    ]
    return "\n".join(lines)
