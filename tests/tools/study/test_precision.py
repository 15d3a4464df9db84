"""The scores by engine and precision are those of evaluations, and the README says what they mean."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.synthetic import CLASSIFICATION, config, write_patches
from tools.recipes.engines import RECORD, describe_engines
from tools.study import precision as module
from tools.study.precision import precision

SOURCE = CLASSIFICATION[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    target = tmp_path / SOURCE.name
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("runs", "eval", "engines"))
    monkeypatch.setattr(module, "render", lambda: None)
    monkeypatch.setattr(module, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(module, "precision_of", lambda amp: "bfloat16")
    return target


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (4e-4, "No engine and precision changes it by more than 0.0005."),
        (-6e-4, "One changes it by 0.00060, more than 0.0005: set `amp` to false where that matters."),
    ],
)
def test_the_record_and_what_is_said_of_it(folder, monkeypatch, change, verdict):
    ran = []

    def evaluate(folder, engine, knobs):
        ran.append((engine, knobs))
        value = 0.9 + change * (engine == "openvino" and knobs["amp"])
        return {"cases": 98, "metrics": {"auc": {"value": value}}}

    monkeypatch.setattr(module, "_evaluate", evaluate)
    assert describe_engines(folder) == "Not measured yet."
    precision(str(folder), dataset_dir="data")
    assert ran == [
        (engine, {"dataset_dir": "data", "amp": amp}) for engine in ("torch", "openvino") for amp in (False, True)
    ]
    record = json.loads((folder / RECORD).read_text())
    assert record["scores"]["torch"] == {"float32": 0.9, "bfloat16": 0.9}
    text = describe_engines(folder)
    assert text.startswith("AUC of the shipped weights on 98 held-back cases:\n")
    assert f"| `openvino` | bfloat16 | {0.9 + change:.5f} | {change:+.5f} |" in text and text.endswith(verdict)


def test_a_processor_without_bfloat16_measures_nothing(folder, monkeypatch):
    monkeypatch.setattr(module, "has_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="this processor does not compute in bfloat16; measure on one with"):
        precision(str(folder))


@pytest.mark.slow
def test_an_evaluation_by_openvino(folder, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = write_patches(tmp_path / "data", label_names=config(SOURCE)["label_names"], shape=(24, 24, 20))
    knobs = {"dataset_dir": str(data), "amp": False}
    results = [module._evaluate(folder, engine, knobs) for engine in ("torch", "openvino")]
    assert results[0]["cases"] > 0
    assert results[0]["metrics"]["auc"] == results[1]["metrics"]["auc"]
    assert list((folder / "models" / "engines").glob("*.onnx"))
