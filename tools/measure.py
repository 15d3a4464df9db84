"""Time and memory of one network, measured in a process of its own."""

from __future__ import annotations

import copy
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

REPOSITORY = Path(__file__).resolve().parents[1]
TIMED_RUNS = 3
"""Timed runs per process, after one that warms up."""


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
        job: ``config`` (with ``network_def``), ``shape``, ``device``, ``amp``, ``threads`` (None: as torch chooses).

    Cost:
        one warm-up and three timed runs of a forward pass and of a training step, one forward pass that counts MACs.
    """
    import monai
    import torch
    from monai.bundle import ConfigParser
    from torch import Tensor, nn
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    device = torch.device(job["device"])
    parser = ConfigParser(copy.deepcopy(job["config"]))
    component = parser.get_parsed_content("network_def", instantiate=False)
    network: nn.Module = component.instantiate().to(device)
    x = torch.rand(job["shape"], device=device)
    half = torch.float16 if device.type == "cuda" and not torch.cuda.is_bf16_supported() else torch.bfloat16
    autocast = torch.autocast(device.type, dtype=half, enabled=job["amp"])
    optimizer = torch.optim.AdamW(network.parameters())
    loss_function = nn.CrossEntropyLoss()

    def logits(output: Any) -> list[Tensor]:
        outputs = list(output) if isinstance(output, list | tuple) else [output]
        stacked = outputs[0].dim() > x.dim()
        return [level for o in outputs for level in (o.unbind(1) if stacked else (o,))]

    def forward() -> None:
        with torch.no_grad(), autocast:
            network(x)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            levels = logits(network(x))
        losses = [loss_function(o.float(), target) for o, target in zip(levels, targets, strict=True)]
        torch.stack(losses).mean().backward()
        optimizer.step()

    def timed(run: Callable[[], None]) -> float:
        seconds = []
        for _ in range(TIMED_RUNS + 1):
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])

    # Resident memory holds Python and torch as well, the CUDA allocator holds tensors only.
    forget_peak()
    base = 0.0 if device.type == "cuda" else peak_mib("cpu")
    network.eval()
    result: dict[str, Any] = {"forward_seconds": timed(forward), "forward_peak_mib": peak_mib(job["device"]) - base}
    network.train()
    with torch.no_grad(), autocast:
        targets = [o.new_zeros(o.shape[:1] + o.shape[2:], dtype=torch.long) for o in logits(network(x))]
    result |= {"step_seconds": timed(step), "step_peak_mib": peak_mib(job["device"]) - base}

    network.eval()
    # The fused attention of the CPU is not known to the counter; the plain one is two matrix products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(x)
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


def worker(job_file: str, result_file: str) -> None:
    """Measure the job of one file and write the result, or the error as one sentence, to another.

    Args:
        job_file: JSON as :func:`measure` takes it.
        result_file: JSON file to write.
    """
    try:
        result = measure(json.loads(Path(job_file).read_text()))
    except Exception as error:  # any network may fail in any way; the parent turns it into a sentence
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        result = {"error": " ".join(f"{type(cause).__name__}: {cause}".split())}
    Path(result_file).write_text(json.dumps(result, default=str))


def in_own_process(job: dict[str, Any], name: str) -> dict[str, Any]:
    """Run :func:`measure` in a fresh process.

    Args:
        job: as :func:`measure` takes it.
        name: network's name for the error.

    Raises:
        ValueError: if the network cannot be built or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / "job.json"), str(Path(folder) / "result.json")]
        Path(files[0]).write_text(json.dumps(job))
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), environment.get("PYTHONPATH")]))
        code = "import sys; from tools.measure import worker; worker(*sys.argv[1:])"
        run = subprocess.run([sys.executable, "-c", code, *files], env=environment, capture_output=True, text=True)
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
            raise ValueError(f"the process that measured {name} ended early ({last}); try a smaller --shape")
        result: dict[str, Any] = json.loads(Path(files[1]).read_text())
    if "error" in result:
        raise ValueError(f"{name} cannot be measured ({result['error']}); correct its network_def or --shape")
    return result
