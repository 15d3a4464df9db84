"""The random forest baseline: which cases it learns from, and what it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow.report import classification_report

pytest.importorskip("sklearn", reason="the extra report is not installed")
from tools.__main__ import main
from tools.study import forest as tool

CASES = {"training": 40, "validation": 12}
NAMES = ["normal", "hyperplasia"]


def patch(label: int, generator: np.random.Generator) -> np.ndarray:
    """Noise; in a hyperplasia one corner is brighter."""
    data = generator.random((14, 14, 14), dtype=np.float32)
    data[:4, :4, :4] += 0.3 * label
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("patches")
    generator = np.random.default_rng(0)
    lines = ["image,label,split"]
    for split, cases in CASES.items():
        for i in range(cases):
            name = f"{split}_{i:02d}.nii.gz"
            nib.save(nib.Nifti1Image(patch(i % 2, generator), np.eye(4)), root / name)
            lines.append(f"{name},{NAMES[i % 2]},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(tool, "TREES", 20)
    monkeypatch.setattr(classification_report, "RESAMPLES", 20)


@pytest.fixture
def seen(monkeypatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the forests are trained on, in turn."""
    calls = []
    fit = tool.RandomForestClassifier.fit

    def spy(self, x, y):
        calls.append((x, y))
        return fit(self, x, y)

    monkeypatch.setattr(tool.RandomForestClassifier, "fit", spy)
    return calls


@pytest.mark.parametrize("size", [28, 64])
def test_block_means(tmp_path, size):
    """Of 28 voxels a block has 4; of 64, block i reaches from floor(64 i / 7) to ceil(64 (i + 1) / 7)."""
    data = np.random.default_rng(0).random((size,) * 3)
    file = str(tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(data, np.eye(4)), file)
    edges = [(size * i // 7, -(-size * (i + 1) // 7)) for i in range(7)]
    assert edges[1] == ((4, 8) if size == 28 else (9, 19))
    want = [data[a:b, c:d, e:f].mean() for a, b in edges for c, d in edges for e, f in edges]
    np.testing.assert_allclose(tool.block_means([file])[file], want, rtol=1e-5)


def test_learns_and_writes_what_it_measured(folder, tmp_path, capsys):
    output = tmp_path / "new" / "forest.json"
    assert main(["forest", str(folder), "--seeds", "2", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    assert report["command"].startswith(f"python -m tools forest {folder} --split=validation --seeds=2 --fold=0")
    assert report["cases_per_class"] == {"normal": 6, "hyperplasia": 6}
    assert set(report["versions"]) == {"python", "scikit-learn", "numpy", "torch", "monai"}
    printed = capsys.readouterr().out
    for entry in report["forests"]:
        assert len(entry["seeds"]) == 2
        for name, mean in entry["mean"].items():
            assert mean == pytest.approx(np.mean([run[name]["value"] for run in entry["seeds"]]))
            assert f"{name} {mean:.4f}" in printed
            for run in entry["seeds"]:
                assert run[name]["interval"][0] <= run[name]["value"] <= run[name]["interval"][1]
        assert entry["mean"]["auc"] > 0.75
        assert entry["seeds"][0] != entry["seeds"][1], "the seeds differ"


def test_the_same_command_gives_the_same_figures(folder):
    assert tool.forest(str(folder), seeds=1) == tool.forest(str(folder), seeds=1)


@pytest.mark.parametrize("fold", [0, 3])
def test_learns_from_the_cases_of_the_network_and_then_from_all_training_cases(folder, seen, fold):
    report = tool.forest(str(folder), seeds=1, fold=fold)
    assert [(e["trained_on"], e["cases"]) for e in report["forests"]] == [
        (["training"], 32),
        (["training", "held_out"], 40),
    ]
    files = [str(folder / f"training_{i:02d}.nii.gz") for i in range(40)]
    means = np.stack(list(tool.block_means(files).values()))
    # Classes alternate, so the case i has the rank i // 2 in its class
    kept = np.array([i // 2 % 5 != fold for i in range(40)])
    labels = np.arange(40) % 2
    for (x, y), own in zip(seen, (kept, np.full(40, True)), strict=True):
        np.testing.assert_array_equal(x, means[own])
        np.testing.assert_array_equal(y, labels[own])


def test_is_never_measured_on_what_it_has_seen(folder, seen, capsys):
    report = tool.forest(str(folder), split="held_out", seeds=1)
    assert [entry["trained_on"] for entry in report["forests"]] == [["training"]]
    assert len(seen) == 1
    assert "trained on training and held_out: left out, since held_out is part of it" in capsys.readouterr().out
    with pytest.raises(ValueError, match="split training is what the forests are trained on"):
        tool.forest(str(folder), split="training")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0"], "seeds must be an integer of at least 1, got 0"),
        (["--seeds", "1.5"], "seeds must be an integer of at least 1, got 1.5"),
        (["--split", "test"], "has training, validation only"),
        (["--label_names", "normal,tumour"], "has the class 'hyperplasia', which is none of normal, tumour"),
        (["--fold", "7"], "fold must lie between 0 and 4, got 7"),
    ],
)
def test_refuses_wrong_arguments(folder, tmp_path, capsys, options, message):
    assert main(["forest", str(folder), *options, "--output", str(tmp_path / "forest.json")]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((14, 14), "has 2 axes"),
        ((14, 14, 14, 2), "has 2 channels of shape .* where 1 are expected"),
        (None, "is truncated"),
    ],
)
def test_names_the_patch_that_does_not_fit(tmp_path, shape, message):
    files = [str(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")]
    nib.save(nib.Nifti1Image(np.arange(14.0**3).reshape(14, 14, 14), np.eye(4)), files[0])
    if shape:
        nib.save(nib.Nifti1Image(np.zeros(shape), np.eye(4)), files[1])
    else:
        Path(files[1]).write_bytes(Path(files[0]).read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"b\.nii\.gz {message}"):
        tool.block_means(files)


def test_missing_extra_is_one_sentence(folder, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "tools.study.forest")
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    assert main(["forest", str(folder)]) == 1
    assert capsys.readouterr().err == "error: this command needs sklearn; pip install scikit-learn\n"
