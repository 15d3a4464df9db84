"""A network compiled by OpenVINO: converted once, compared with PyTorch, kept beside the weights."""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from custom_networks.failures import chain_of, on_one_line
from custom_networks.workflow.infer.engines.kept_files import fingerprint, kept, writable
from custom_networks.workflow.infer.engines.onnx_export import example, write_onnx

logger = logging.getLogger(__name__)
INSTALL = "pip install openvino onnx onnxscript, or set engine to torch"
TOLERANCE = 1e-3
# a sliding window has one size, its last batch perhaps another
MOST_SIZES = 4
HINTS = {"float32": "f32", "bfloat16": "bf16"}


class MissingPackageError(ValueError):
    """A package that the conversion needs is not installed."""


class ConversionError(ValueError):
    """A network cannot be converted, or computes something else when it is."""


def require(*packages: str) -> None:
    """Refuse to convert without a package.

    Args:
        *packages: their names.

    Raises:
        MissingPackageError: if one is not installed.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingPackageError(f"engine openvino needs {', '.join(missing)}; {INSTALL}")


_first = Lock()


def _core() -> Any:
    with _first:  # of two threads one would make a second Core, which ends
        return _one_core()


@cache
def _one_core() -> Any:
    """Return the one Core of this process, which is never let go.

    A Core gives its thread an alternate signal stack, and unmaps it when it ends, also where the thread still has it:
    where another thread lets go of it, or two end in the order they began in. The next Ctrl-C or end of a child is then
    a segmentation fault.
    """
    return import_module("openvino").Core()


def versions() -> str:
    """Return the version of OpenVINO and the name of the processor it compiles for."""
    return f"OpenVINO {import_module('openvino').get_version()}, {_core().get_property('CPU', 'FULL_DEVICE_NAME')}"


def precision_of(amp: bool) -> str:
    """Return what OpenVINO computes in on this processor: bfloat16 if wanted and the processor has it, else float32.

    Args:
        amp: whether mixed precision is wanted.
    """
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bfloat16" if amp and "BF16" in capabilities else "float32"


class OpenVinoRunner:
    """Logits of a converted network, by OpenVINO on the CPU.

    The graph leaves sizes open and is compiled for each size that comes, which is faster than one for all.

    Args:
        onnx: the file of the graph.
        precision: "float32" or "bfloat16".
        compiled: folder for OpenVINO's cache of compiled graphs, ``None`` for none.

    Shape:
        float32 ``(B, C, *S)`` to float32 ``(B, K, *S)``.

    Cost:
        Compiling takes a second at most, a third of that from the cache; a compiled graph holds the weights once.
    """

    def __init__(self, onnx: Path, precision: str, compiled: Path | None) -> None:
        self.onnx = onnx
        self.precision = precision
        self.compiled = compiled
        self._requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits.

        Args:
            x: ``(B, C, *S)`` on the CPU.
        """
        size = tuple(x.shape)
        if size not in self._requests:
            if len(self._requests) == MOST_SIZES:
                self._requests.clear()
            self._requests[size] = self._compile(size)
        request = self._requests[size]
        request.infer([x.detach().float().contiguous().numpy()])
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    def _compile(self, size: tuple[int, ...]) -> Any:
        model = _core().read_model(self.onnx)
        model.reshape(list(size))
        properties = {
            # without this hint OpenVINO takes bfloat16 wherever the processor has it
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        if self.compiled is not None:
            # not mapped into memory: another process may write the same file anew
            properties |= {"CACHE_DIR": str(self.compiled), "ENABLE_MMAP": False}
        return _core().compile_model(model, "CPU", properties).create_infer_request()


def _convert(network: nn.Module, x: Tensor, path: Path) -> None:
    """Write the ONNX graph of a network, and refuse one whose logits OpenVINO does not compute as PyTorch does."""
    require("onnx", "onnxscript")
    logger.info("converting the network for OpenVINO, once for these weights; this can take a minute")
    try:
        write_onnx(network, example(x.shape[1], x.shape[2:]), path)
        got = OpenVinoRunner(path, "float32", None)(x)
    except OSError:  # a full disk is not the network's
        raise
    except Exception as error:  # every network can stop the exporter in its own way
        *_, cause = chain_of(error)  # the exporter's own is a page of advice
        raise ConversionError(
            f"the network cannot be converted for OpenVINO ({on_one_line(cause)}); set engine to torch"
        ) from error
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        want = network(x.float())
    difference, largest = float((got - want).abs().max()), float(want.abs().max())
    if not difference <= TOLERANCE * largest:
        raise ConversionError(
            f"OpenVINO's logits differ from PyTorch's by {difference:.2g} where the largest is {largest:.2g}; set "
            "engine to torch"
        )


def openvino_runner(network: nn.Module, x: Tensor, *, weights: Path, amp: bool) -> OpenVinoRunner:
    """Return a network compiled by OpenVINO, from the cache beside the weights or converted now.

    What is converted is run on ``x`` in float32, and kept only where no logit differs from PyTorch's by more than a
    thousandth of the largest.

    Args:
        network: the network in eval mode, with its weights.
        x: an input ``(B, C, *S)`` on the CPU.
        weights: the file that the weights come from, beside which the graph is kept.
        amp: whether to compute in bfloat16 where the processor has it.

    Raises:
        MissingPackageError: if a package is not installed.
        ConversionError: if the network cannot be converted, or the outputs differ.
        OSError: if the graph cannot be written anywhere.
    """
    require("openvino")
    key = hashlib.sha256(f"{fingerprint(network)} {import_module('openvino').get_version()}".encode()).hexdigest()
    onnx = kept(weights, f"{key}.onnx", lambda path: _convert(network, x, path))
    return OpenVinoRunner(onnx, precision_of(amp), writable(weights) / "compiled")
