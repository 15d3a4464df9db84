"""Exports are compared with PyTorch, recorded, and leave nothing behind when they differ."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch

from tests.processes import isolated
from tests.synthetic import BUNDLES, CLASSIFICATION
from tools.recipes.exports import describe_exports
from tools.recipes.render import all_bundles, spec_of
from tools.ship import export as module

pytestmark = pytest.mark.slow

SOURCE = CLASSIFICATION[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a copy of a bundle, whose README is not rendered."""
    copied = tmp_path / SOURCE.name
    shutil.copytree(SOURCE, copied, ignore=shutil.ignore_patterns("eval", "runs", "*.onnx", "*.ts", "*.pt2"))
    (copied / "docs" / "runs").mkdir()
    monkeypatch.setattr(module, "render", lambda: None)
    return copied


def test_three_files_and_their_record(folder, tmp_path):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    written = module.export(str(folder))
    assert [path.name for path in written] == ["model.onnx", "model.pt2", "model.ts"]
    assert sorted(path.name for path in (folder / "models").iterdir()) == [
        "model.onnx",
        "model.pt",
        "model.pt2",
        "model.ts",
    ]
    record = json.loads((folder / "docs" / "runs" / "exports.json").read_text())
    assert record["weights_sha256"] == hashlib.sha256((folder / "models" / "model.pt").read_bytes()).hexdigest()
    assert record["sizes"] == [[28, 28, 28], [32, 32, 32]]
    assert list(record["differences"]) == [".ts", ".pt2", ".onnx"]
    assert all(0 <= value < 1e-4 for values in record["differences"].values() for value in values)
    assert record["largest_output"] > 0.01

    network, channels, _ = module.inference_network(folder)
    x = torch.randn(3, channels, 30, 29, 33)
    torch.save(x, tmp_path / "x.pt")
    # Neither this package nor MONAI is needed to run what torch.export wrote.
    code = """if True:
        import sys, torch
        sys.modules["monai"] = None
        program = torch.export.load(sys.argv[1]).module()
        torch.save(program(torch.load(sys.argv[2])).detach(), sys.argv[3])
        assert not any(name.startswith("custom_networks") for name in sys.modules)
    """
    arguments = [str(path) for path in (folder / "models" / "model.pt2", tmp_path / "x.pt", tmp_path / "y.pt")]
    done = isolated("-c", code, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "y.pt"), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [lambda y: y * 1.01, lambda y: y * float("nan")], ids=["one percent", "nan"])
def test_an_export_that_differs_leaves_nothing(folder, monkeypatch, wrong):
    def broken(path):
        run = torch.jit.load(path)
        return lambda x: wrong(run(x))

    monkeypatch.setattr(module, "write_program", lambda network, x, path: path.touch())
    monkeypatch.setattr(module, "write_onnx", lambda network, x, path: path.touch())
    monkeypatch.setattr(
        module,
        "READERS",
        {
            ".ts": torch.jit.load,
            ".pt2": lambda path: broken(path.with_suffix(".ts")),
            ".onnx": lambda path: torch.jit.load(path.with_suffix(".ts")),
        },
    )
    with pytest.raises(ValueError, match=r"an export of .* differs from PyTorch by .*; nothing was written"):
        module.export(str(folder))
    assert [path.name for path in (folder / "models").iterdir()] == ["model.pt"]
    assert not list((folder / "docs" / "runs").iterdir())


def test_no_weights_and_no_bundle(folder):
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        module.export(str(folder))
    assert not list((folder / "models").iterdir())
    for arguments in ({}, {"bundle": str(folder), "all": True}):
        with pytest.raises(ValueError, match="give one bundle, or --all"):
            module.export(**arguments)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_bundle_shows_its_exports(bundle):
    spec = spec_of(bundle)
    text = describe_exports(spec, bundle)
    assert [line.split(" | ")[0] for line in text.splitlines() if "models/model" in line] == [
        "| TorchScript",
        "| `torch.export`",
        "| ONNX",
    ]
    assert text in (bundle / "docs" / "README.md").read_text()


def test_without_a_record_nothing_is_claimed(tmp_path):
    assert describe_exports(all_bundles()[0], tmp_path).endswith("Not measured yet.")
