"""The table of engines shows seconds and differing classes of the shipped weights, whatever the processor has."""

from __future__ import annotations

import json

import pytest

from custom_networks.workflow.infer import inferers
from custom_networks.workflow.infer.engines import openvino_runner
from tests.synthetic import CLASSIFICATION
from tools.bench import bench_engines as module
from tools.bench.bench_engines import bench_engines, format_engines

PAGE = "# Page\n\n<!-- engines:start -->\nold\n<!-- engines:end -->\n\nEnd\n"
REPORT = {
    "processor": "a processor",
    "threads": 2,
    "repeats": 3,
    "versions": {"torch": "2", "onnxruntime": "1", "openvino": "3"},
    "bundles": [
        {
            "bundle": "one",
            "window": [8, 8, 4],
            "engines": {
                "torch float32": {"seconds": 1.25, "differ": 0, "of": 256},
                "openvino float32": {"seconds": 0.5, "differ": 0, "of": 256},
                "openvino bfloat16": {"seconds": 0.125, "differ": 3, "of": 256},
            },
        }
    ],
}


def test_the_table():
    lines = format_engines(REPORT).splitlines()
    assert lines[0].startswith(
        "| bundle | window | PyTorch float32 | PyTorch bfloat16 | ONNX Runtime float32 | OpenVINO"
    )
    assert lines[2] == "| `one` | 8 x 8 x 4 | 1.250 (0) | - | - | 0.500 (0) | 0.125 (3) |"
    assert lines[4].endswith(
        "a processor, 2 threads, PyTorch 2, ONNX Runtime 1, OpenVINO 3; medians of 3 processes each."
    )


def test_what_is_wrong_shows_before_the_measuring(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_in_a_process", None)
    page = tmp_path / "page.md"
    with pytest.raises(FileNotFoundError, match="does not exist; create it with the lines"):
        bench_engines(markdown=str(page))
    with pytest.raises(ValueError, match="repeats must be an integer of at least 1"):
        bench_engines(repeats=0)
    with pytest.raises(ValueError, match="there is no bundle absent"):
        bench_engines("absent")


@pytest.mark.slow
@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_one_bundle_by_every_engine(tmp_path, monkeypatch, has_bfloat16):
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package)
    monkeypatch.setattr(module, "_in_a_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(module, "TIMED_RUNS", 1)
    monkeypatch.setattr(module, "TIMED_SECONDS", 0)
    monkeypatch.setattr(inferers, "has_bfloat16", lambda device: has_bfloat16)
    monkeypatch.setattr(openvino_runner, "precision_of", lambda amp: "bfloat16" if has_bfloat16 else "float32")
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    output = tmp_path / "engines.json"
    bench_engines(str(CLASSIFICATION[0]), repeats=2, threads=1, output=str(output), markdown=str(page))
    (entry,) = json.loads(output.read_text())["bundles"]
    assert entry["window"] == [28, 28, 28]
    names = [f"{engine} {precision}" for engine, precision in module.ENGINES if has_bfloat16 or precision == "float32"]
    assert list(entry["engines"]) == names
    assert all(found["seconds"] > 0 and found["differ"] <= found["of"] == 1 for found in entry["engines"].values())
    assert f"`{CLASSIFICATION[0].name}`" in page.read_text() and "old" not in page.read_text()
