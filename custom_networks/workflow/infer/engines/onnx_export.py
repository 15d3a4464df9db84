"""The ONNX graph of a trained network, batch and spatial sizes open."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from torch.export import Dim


def example(channels: int, size: Sequence[int], batch: int = 2) -> Tensor:
    """Return an input drawn at random with a fixed seed; a batch of two leaves the batch open in an export.

    Args:
        channels: channels.
        size: voxels per axis.
        batch: samples.

    Example:
        >>> example(1, (8, 8, 4)).shape
        torch.Size([2, 1, 8, 8, 4])
    """
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def open_sizes(network: nn.Module) -> dict[int, Any]:
    """Return the axes whose size an exported graph leaves open: batch and space.

    Args:
        network: the network; axes that must be divisible by something are declared as its multiples.
    """
    steps = getattr(network, "size_divisor", None)
    if steps is None:
        return {0: Dim.DYNAMIC, **dict.fromkeys((2, 3, 4), Dim.DYNAMIC)}
    return {0: Dim("batch")} | {i: step * Dim(f"axis{i}") for i, step in enumerate(steps, start=2)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling of its deprecations, its steps, and packages that these networks do not need."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx._internal.exporter._registration", "onnx_ir")]
    levels = [own.level for own in loggers]
    for own in loggers:
        own.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for own, level in zip(loggers, levels, strict=True):
            own.setLevel(level)


def write_onnx(network: nn.Module, x: Tensor, path: Path) -> None:
    """Write the graph of a network in eval mode and float32, input ``image``, output ``pred``.

    Args:
        network: the network, unchanged by this.
        x: an example ``(2, C, *S)``.
        path: the file to write.

    Raises:
        ValueError: if torch makes no graph.
    """
    # a caller may be in the middle of an inference, under autocast and in inference mode
    plain = (torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False))
    with plain[0], plain[1], plain[2], eval_mode(network), _quiet():
        program = torch.onnx.export(
            network,
            (x,),
            dynamo=True,
            verbose=False,
            dynamic_shapes=(open_sizes(network),),
            input_names=["image"],
            output_names=["pred"],
        )
    if program is None:
        raise ValueError("torch.onnx.export made no program; use the torch that constraints.txt names")
    program.save(str(path))
