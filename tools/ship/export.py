"""Export a bundle's trained network, and record how far the exports are from PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

# Read by torch when it is imported: with its cache of fake operations an export takes twice as long.
os.environ.setdefault("TORCH_FAKE_TENSOR_DISPATCH_CACHE", "0")

import monai.bundle
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from custom_networks.bundle_folder import find_bundle, read_config
from custom_networks.workflow import load_weights
from custom_networks.workflow.infer.engines.onnx_export import example, open_sizes, write_onnx
from tools.recipes.exports import FORMATS, RECORD
from tools.recipes.render import all_bundles, render

TOLERANCE = 1e-3
GROWTH = 4
Runner = Callable[[Tensor], Tensor]


def export(bundle: str | None = None, all: bool = False) -> list[Path]:  # noqa: A002
    """Write ``model.ts``, ``model.onnx`` and ``model.pt2`` of a bundle's trained network beside its weights.

    TorchScript is written by ``monai.bundle ckpt_export`` with the bundle's metadata; ONNX and ``torch.export`` leave
    batch and spatial sizes open. Each is read back and run on the training patch and on a larger one; the largest
    absolute difference from PyTorch goes into ``docs/runs/exports.json`` and from there into the bundle's README.

    Args:
        bundle: name or folder of the bundle.
        all: export every bundle instead of one.

    Returns:
        The files written.

    Raises:
        ValueError: if neither or both of ``bundle`` and ``all`` are given, or an export differs from PyTorch by more
            than a thousandth of the largest output; no file of that bundle is written then.
        FileNotFoundError: if the bundle has no weights.
        ModuleNotFoundError: if the packages of ONNX are not installed.
    """
    for package in ("onnxruntime", "onnxscript"):
        import_module(package)  # says that the extra is missing before minutes are spent
    if (bundle is None) != all:
        raise ValueError("give one bundle, or --all")
    folders = [find_bundle(spec.name) for spec in all_bundles()] if bundle is None else [find_bundle(bundle)]
    written = []
    for folder in folders:
        written += _export(folder)
    render()
    return written


def _export(folder: Path) -> list[Path]:
    """Export one bundle."""
    models = folder / "models"
    network, channels, patch = inference_network(folder)
    sizes = [patch, larger(patch, getattr(network, "size_divisor", None))]
    with tempfile.TemporaryDirectory(dir=models, prefix=".export-") as name:
        temporary = Path(name)
        paths = {suffix: temporary / f"model{suffix}" for suffix in FORMATS}
        write_torchscript(folder, paths[".ts"])
        write_program(network, example(channels, patch), paths[".pt2"])
        write_onnx(network, example(channels, patch), paths[".onnx"])
        runners = {suffix: READERS[suffix](path) for suffix, path in paths.items()}
        record = compared(network, runners, channels, sizes)
        largest = record["largest_output"]
        wrong = [v for values in record["differences"].values() for v in values if not v <= TOLERANCE * largest]
        if wrong:
            raise ValueError(
                f"an export of {folder.name} differs from PyTorch by {wrong[0]:.2g} where the largest output is "
                f"{largest:.2g}; nothing was written: use another version of torch or onnxruntime"
            )
        files = [models / path.name for path in sorted(temporary.iterdir())]
        for path in files:
            os.replace(temporary / path.name, path)
    record = {"weights_sha256": digest(models / "model.pt"), **record}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    print("wrote " + ", ".join(str(path) for path in files))
    return files


def inference_network(folder: Path) -> tuple[nn.Module, int, list[int]]:
    """Return the network of inference.json with its weights in eval mode, its input channels, and its patch.

    Args:
        folder: the bundle's folder.

    Raises:
        FileNotFoundError: if there are no weights.
        ValueError: if they do not fit.
    """
    parser = read_config(folder, "inference")
    network = parser.get_parsed_content("network_def")
    load_weights(network, folder / "models" / "model.pt")
    return network.eval(), int(parser["in_channels"]), list(parser["patch_size"])


def larger(patch: list[int], divisor: tuple[int, ...] | None) -> list[int]:
    """Return a size that the network takes and that is larger along every axis.

    Args:
        patch: voxels of the training patch.
        divisor: what every axis must be divisible by, or ``None`` for any size.

    Example:
        >>> larger([40, 56, 40], (8, 8, 4))
        [48, 64, 44]
    """
    return [size + step for size, step in zip(patch, divisor or (GROWTH,) * len(patch), strict=True)]


def write_torchscript(folder: Path, path: Path) -> None:
    """Write TorchScript with the bundle's metadata, as ``monai.bundle ckpt_export`` does.

    Args:
        folder: the bundle's folder.
        path: the file to write.
    """
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(path),
        ckpt_file=str(folder / "models" / "model.pt"),
        meta_file=str(folder / "configs" / "metadata.json"),
        config_file=str(folder / "configs" / "inference.json"),
        bundle_root=str(folder),
    )


def write_program(network: nn.Module, x: Tensor, path: Path) -> None:
    """Write what ``torch.export`` makes; it runs where neither this package nor MONAI is installed.

    Args:
        network: the network in eval mode.
        x: an example.
        path: the file to write.
    """
    program = torch.export.export(network, (x,), dynamic_shapes=(open_sizes(network),))
    torch.export.save(program, path)


def _read_onnx(path: Path) -> Runner:
    session = import_module("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _read_program(path: Path) -> Runner:
    program: ExportedProgram = torch.export.load(path)
    return program.module()


READERS: dict[str, Callable[[Path], Runner]] = {".ts": torch.jit.load, ".pt2": _read_program, ".onnx": _read_onnx}


def compared(network: nn.Module, runners: dict[str, Runner], channels: int, sizes: list[list[int]]) -> dict[str, Any]:
    """Return sizes, the largest output in absolute value, and per format the largest differences from PyTorch.

    Args:
        network: the network in eval mode.
        runners: the exports by their file's suffix.
        channels: channels of the input.
        sizes: voxels per axis; one sample of the first and two of the others are run.
    """
    differences: dict[str, list[float]] = {suffix: [] for suffix in runners}
    largest = 0.0
    with torch.no_grad():
        for number, size in enumerate(sizes):
            x = example(channels, size, batch=1 if number == 0 else 2)
            want = network(x)
            largest = max(largest, float(want.abs().max()))
            for suffix, run in runners.items():
                differences[suffix].append(float((run(x) - want).abs().max()))
    return {"torch": torch.__version__, "sizes": sizes, "largest_output": largest, "differences": differences}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Args:
        path: the file.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()
