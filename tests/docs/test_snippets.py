"""The Python that a page shows runs as it stands."""

from __future__ import annotations

import re

import numpy
import pytest
from torch import nn

from custom_networks.workflow.infer.engines.onnx_export import example, write_onnx
from tests.synthetic import ROOT

PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_onnx_runtime_without_pytorch(tmp_path, monkeypatch, capsys):
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    (tmp_path / "models").mkdir()
    write_onnx(nn.Conv3d(1, 3, 1), example(1, (40, 56, 40)), tmp_path / "models" / "model.onnx")
    monkeypatch.chdir(tmp_path)
    (snippet,) = PYTHON.findall((ROOT / "docs" / "how-to" / "export.md").read_text())
    assert "torch" not in snippet.replace("PyTorch", "")
    names: dict[str, object] = {}
    exec(snippet, names)
    assert capsys.readouterr().out == "CPUExecutionProvider (1, 40, 56, 40)\n"
    assert isinstance(names["logits"], numpy.ndarray)


def test_a_module_in_a_network_of_monai(capsys):
    build, gammas = PYTHON.findall((ROOT / "docs" / "how-to" / "plug.md").read_text())
    names: dict[str, object] = {}
    exec(build, names)
    exec(gammas, names)
    assert capsys.readouterr().out == "{'down_layers.3.plugged_attention.0.gamma': 0.0}\n"
