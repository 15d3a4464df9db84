"""Time and memory of one network, measured in a process of its own."""

from __future__ import annotations

import copy
import importlib
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools import ROOT

TIMED_RUNS = 3
"""Least number of timed runs per process, after one that warms up."""
TIMED_SECONDS = 0.2
"""Runs go on until they have taken this long, so that the median of a fast module means something."""


def peak_mib(device: str) -> float:
    """Return the peak memory of this process so far in MiB: CUDA's allocator on a GPU, resident memory elsewhere.

    ``ru_maxrss`` of a child starts at its parent's peak on Linux, so ``VmHWM`` is read where it exists.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def forget_peak() -> None:
    """Start ``VmHWM`` anew at the present resident memory, where the system can: importing torch has its own peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def tensor_peak_mib(run: Callable[[], None], device: str) -> float:
    """Return by how many MiB the memory that torch holds for tensors grows at most during one run.

    Unlike resident memory it is exact to the byte, and sees a layer whose maps are smaller than what libraries load.

    Args:
        run: what to run, once.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        run()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = [e for e in json.loads(file.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    events.sort(key=lambda event: event["ts"])
    return max(itertools.accumulate((e["args"]["Bytes"] for e in events), initial=0)) / 2**20


def processor(device: str) -> str:
    """Return the name of the GPU, or of the CPU where the system tells it."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Measure one network in this process.

    Args:
        job: ``config`` (with ``network_def``), ``shape``, ``device``, ``amp``, ``threads`` (None: as torch chooses),
            and ``inner``: whether it is a layer inside a network, whose step takes the mean square of its output and
            computes the gradient of its input, and whose peaks are of tensors; else a network, whose step takes the
            cross-entropy of its logits, and whose peaks are of the process.

    Cost:
        one warm-up and at least three timed runs of a forward pass and of a training step, one forward pass that
        counts MACs.
    """
    import monai
    import torch
    from monai.bundle import ConfigParser
    from torch import Tensor, nn
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    device = torch.device(job["device"])
    parser = ConfigParser(copy.deepcopy(job["config"]))
    component = parser.get_parsed_content("network_def", instantiate=False)
    network: nn.Module = component.instantiate().to(device)
    x = torch.rand(job["shape"], device=device, requires_grad=job["inner"])
    half = torch.float16 if device.type == "cuda" and not torch.cuda.is_bf16_supported() else torch.bfloat16
    autocast = torch.autocast(device.type, dtype=half, enabled=job["amp"])
    # A module may have no parameters; AdamW wants one.
    optimizer = torch.optim.AdamW(list(network.parameters()) or [nn.Parameter(torch.zeros(0))])
    loss_function = nn.MSELoss() if job["inner"] else nn.CrossEntropyLoss()

    def logits(output: Any) -> list[Tensor]:
        outputs = list(output) if isinstance(output, list | tuple) else [output]
        stacked = outputs[0].dim() > x.dim()
        return [level for o in outputs for level in (o.unbind(1) if stacked else (o,))]

    def forward() -> None:
        with torch.no_grad(), autocast:
            network(x)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        x.grad = None
        with autocast:
            levels = logits(network(x))
        losses = [loss_function(o.float(), target) for o, target in zip(levels, targets, strict=True)]
        torch.stack(losses).mean().backward()
        optimizer.step()

    def timed(run: Callable[[], None]) -> float:
        seconds: list[float] = []
        while len(seconds) <= TIMED_RUNS or sum(seconds[1:]) < TIMED_SECONDS:
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])

    # Resident memory holds Python and torch as well, the CUDA allocator holds tensors only.
    forget_peak()
    base = 0.0 if device.type == "cuda" else peak_mib("cpu")

    def figures(name: str, run: Callable[[], None]) -> dict[str, Any]:
        peak = tensor_peak_mib(run, job["device"]) if job["inner"] else None
        seconds = timed(run)
        return {
            f"{name}_seconds": seconds,
            f"{name}_peak_mib": peak_mib(job["device"]) - base if peak is None else peak,
        }

    network.eval()
    result = figures("forward", forward)
    network.train()
    with torch.no_grad(), autocast:
        outputs = logits(network(x))
    if job["inner"]:
        targets = [torch.zeros_like(o, dtype=torch.float32) for o in outputs]
    else:
        targets = [o.new_zeros(o.shape[:1] + o.shape[2:], dtype=torch.long) for o in outputs]
    del outputs
    result |= figures("step", step)

    network.eval().requires_grad_(False)  # the counter takes a slice of a parameter for part of a graph

    def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        return sdpa_flop_count(query, key, value)

    # The fused attention of the CPU is not known to the counter.
    fused = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=fused) as counter:
        network(x.detach())
    return result | {
        "network_def": {key: value for key, value in component.get_config().items() if key != "_requires_"},
        "parameters": sum(p.numel() for p in network.parameters()),
        "gmacs": counter.get_total_flops() / 2e9,
        "dtype": str(half if job["amp"] else torch.float32).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "processor": processor(job["device"]),
    }


def worker(job_file: str, result_file: str, by: str) -> None:
    """Measure the jobs of one file and write the results, or the first error as one sentence, to another.

    Args:
        job_file: JSON list of jobs as the function takes them.
        result_file: JSON file to write.
        by: the function, ``module:name``.
    """
    result: list[dict[str, Any]] | dict[str, str]
    try:
        module, _, name = by.partition(":")
        function = getattr(importlib.import_module(module), name)
        result = [function(job) for job in json.loads(Path(job_file).read_text())]
    except Exception as error:  # any network may fail in any way; the parent turns it into a sentence
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        result = {"error": " ".join(f"{type(cause).__name__}: {cause}".split())}
    Path(result_file).write_text(json.dumps(result, default=str))


def in_own_process(
    jobs: list[dict[str, Any]], name: str, by: str = "tools.bench.measure:measure"
) -> list[dict[str, Any]]:
    """Run a function for one job after another in a fresh process.

    Args:
        jobs: each as the function takes it.
        name: network's name for the error.
        by: the function, ``module:name``.

    Raises:
        ValueError: if the network cannot be built or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / "job.json"), str(Path(folder) / "result.json")]
        Path(files[0]).write_text(json.dumps(jobs))
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
        code = "import sys; from tools.bench.measure import worker; worker(*sys.argv[1:])"
        run = subprocess.run([sys.executable, "-c", code, *files, by], env=environment, capture_output=True, text=True)
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
            raise ValueError(f"the process that measured {name} ended early ({last}); try a smaller --shape")
        result = json.loads(Path(files[1]).read_text())
    if "error" in result:
        raise ValueError(f"{name} cannot be measured ({result['error']}); correct its network_def or --shape")
    results: list[dict[str, Any]] = result
    return results
