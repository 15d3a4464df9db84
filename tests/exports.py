"""The part of the battery that takes a module out of Python: TorchScript, torch.export, torch.compile and ONNX."""

from __future__ import annotations

import io
import tempfile
import warnings
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from custom_networks.workflow.infer.engines.openvino_runner import OpenVinoRunner
from tests.case import Case, close

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def check_script(case: Case) -> None:
    module = case.module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(module)
    for grow in (0, 1):
        inputs = case.resized(grow).inputs()
        close(scripted(*inputs), module(*inputs), "TorchScript differs")


def _any_size(case: Case) -> tuple[dict[int, Any], ...]:
    """Return per input the axes whose size an exported graph leaves open: all but the channels."""
    return tuple({i: Dim.DYNAMIC for i in range(len(shape) + 1) if i != 1} for shape in case.shapes)


def _any_multiple(case: Case) -> tuple[dict[int, Any], ...]:
    """Return the same, each spatial axis declared as a multiple of what it must be a multiple of."""
    if not case.multiples:
        return _any_size(case)
    return ({0: Dim("batch")} | {i: multiple * Dim(f"axis{i}") for i, multiple in enumerate(case.multiples, start=2)},)


def _is_large(case: Case) -> bool:
    """Tell whether the case is a network in 3D, whose graph takes so long that it is made from one example only."""
    return case.is_net and len(case.shapes[0]) == 4


@lru_cache(maxsize=1)
def _exported(case: Case) -> tuple[ExportedProgram, bool]:
    """Export with any size once for ``check_export`` and ``check_onnx``; also say if the graph for ONNX is another.

    It is another where the module asks for it while it is exported.
    """
    with mock.patch.object(torch.onnx, "is_in_onnx_export", return_value=False) as asked:
        example, sizes = (case.resized(2), _any_multiple(case)) if _is_large(case) else (case, _any_size(case))
        program = torch.export.export(case.module(), tuple(example.inputs()), dynamic_shapes=sizes)
    return program, asked.called


def check_export(case: Case) -> None:
    """Export with dynamic sizes from a small and, in 3D, from a large example, and run each on other sizes.

    Networks in 3D are exported from the large one alone, and the blocks that are part of one from the small one alone.
    """
    module, programs = case.module(), []
    if len(case.shapes[0]) == 4 and not case.is_net and not case.part_of:
        large = tuple(case.resized(2).inputs())
        programs.append((torch.export.export(module, large, dynamic_shapes=_any_multiple(case)), (0, 1, 3)))
    programs.append((_exported(case)[0], (0, 1, 3) if _is_large(case) else (1, 2)))
    for program, others in programs:
        exported = program.module()
        for grow in others:
            for batch in (1, 3):
                inputs = case.resized(grow).inputs(batch)
                close(exported(*inputs), module(*inputs), "torch.export differs")


def check_compile(case: Case) -> None:
    module, inputs = case.module(), case.inputs()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    close(compiled(*inputs), module(*inputs), "torch.compile differs")


@cache
def _one_table() -> Any:
    """Return a patch under which the exporter makes its table of ONNX functions once; else it does for every export."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return mock.patch.object(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))


def onnx_graph(model: nn.Module | ExportedProgram, *arguments: Any, **options: Any) -> bytes:
    """Export to ONNX as ``torch.onnx.export(model, *arguments, **options)`` does."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), _one_table():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, *arguments, dynamo=True, verbose=False, **options).save(buffer)
    return buffer.getvalue()


def onnx_session(graph: bytes) -> InferenceSession:
    """Load an ONNX graph on one thread."""
    import onnxruntime

    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = threads.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, threads, providers=["CPUExecutionProvider"])


def run_by_openvino(case: Case, graph: bytes) -> None:
    """Compare the logits of OpenVINO, and its classes wherever two logits are not all but equal."""
    pytest.importorskip("openvino")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph)
        runner = OpenVinoRunner(path, "float32", None)
        for grow, batch in ((0, 2), (1, 1)):
            (x,) = case.resized(grow).inputs(batch)
            got, want = runner(x), case.module()(x)
            close(got, want, "OpenVINO differs")
            first, second = want.topk(2, dim=1)[0].unbind(1)
            clear = first - second > 1e-3
            assert torch.equal(got.argmax(1)[clear], want.argmax(1)[clear])


def check_onnx(case: Case) -> None:
    module = case.module()
    program, another = _exported(case)
    graph = onnx_graph(module, tuple(case.inputs()), dynamic_shapes=_any_size(case)) if another else onnx_graph(program)
    session = onnx_session(graph)
    names = [node.name for node in session.get_inputs()]
    for grow, batch in ((0, 2), (1, 1)):
        inputs = case.resized(grow).inputs(batch)
        got = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})[0]
        close(torch.from_numpy(got), module(*inputs), "ONNX differs")
    if case.is_net:
        run_by_openvino(case, graph)
