"""The part of the battery that takes a module out of Python: TorchScript, torch.export, torch.compile and ONNX."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

import torch

from tests.case import Case, close


def check_script(case: Case) -> None:
    module = case.module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(module)
    for grow in (0, 1):
        inputs = case.resized(grow).inputs()
        close(scripted(*inputs), module(*inputs), "TorchScript differs")


def _dynamic(case: Case) -> tuple[dict[int, object], ...]:
    """Return per input the axes whose size an exported graph leaves open: all but the channels."""
    if not case.multiples:
        return tuple({i: torch.export.Dim.DYNAMIC for i in range(len(s) + 1) if i != 1} for s in case.shapes)
    axes = {i: multiple * torch.export.Dim(f"axis{i}") for i, multiple in enumerate(case.multiples, start=2)}
    return ({0: torch.export.Dim("batch")} | axes,)


def check_export(case: Case) -> None:
    """Export with dynamic sizes from a large and from a small example, run each on other sizes."""
    module = case.module()
    examples = ((2, (0, 1, 3)), (0, (1, 2)))
    for example, others in examples if len(case.shapes[0]) == 4 else examples[1:]:
        inputs = tuple(case.resized(example).inputs())
        exported = torch.export.export(module, inputs, dynamic_shapes=_dynamic(case)).module()
        for grow in others:
            for batch in (1, 3):
                inputs = case.resized(grow).inputs(batch)
                close(exported(*inputs), module(*inputs), "torch.export differs")


def check_compile(case: Case) -> None:
    module, inputs = case.module(), case.inputs()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    close(compiled(*inputs), module(*inputs), "torch.compile differs")


def check_onnx(case: Case) -> None:
    import onnxruntime

    module = case.module()
    shapes = _dynamic(replace(case, multiples=()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, tuple(case.inputs()), dynamo=True, dynamic_shapes=shapes, verbose=False)
    buffer = io.BytesIO()
    program.save(buffer)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    for grow, batch in ((0, 2), (1, 1)):
        inputs = case.resized(grow).inputs(batch)
        got = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})[0]
        close(torch.from_numpy(got), module(*inputs), "ONNX differs")
