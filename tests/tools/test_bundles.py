"""Rendering: formatter, list of bundles, and the check that finds stale files."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.synthetic import ROOT
from tools import bundles
from tools.__main__ import main
from tools.recipes.formatting import to_json

VALUES = [
    {},
    [],
    {"a": [], "b": {}},
    {"a": [1, 2.5, None, True, 'é " \\ \n']},
    {"a": [[1, 2], [3]], "b": [{"c": 1}, 2]},
    {"long": [f"word {number}" for number in range(40)]},
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_formatted_json_reads_back(value):
    assert json.loads(to_json(value)) == value


def test_arrays_of_scalars_stay_on_one_line():
    assert to_json({"a": [1, "b"], "c": {"d": [[1, 2]]}}).splitlines() == [
        "{",
        '  "a": [1, "b"],',
        '  "c": {',
        '    "d": [',
        "      [1, 2]",
        "    ]",
        "  }",
        "}",
    ]


def test_every_specification_is_a_folder_and_the_reverse():
    names = [bundle.name for bundle in bundles.all_bundles()]
    folders = {path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")}
    assert len(names) == len(set(names))
    assert set(names) == folders


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Return the root of a copy of what is rendered."""
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles", ignore=shutil.ignore_patterns("*.pt", "eval"))
    shutil.copy(ROOT / "LICENSE", tmp_path)
    (tmp_path / "README.md").write_text(f"# Title\n\n{bundles.START}\nold\n{bundles.END}\n\nEnd\n")
    monkeypatch.setattr(bundles, "ROOT", tmp_path)
    bundles.render()
    return tmp_path


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_rendering_twice_changes_nothing(copy, capsys):
    before = contents(copy)
    capsys.readouterr()
    bundles.render()
    assert contents(copy) == before
    assert capsys.readouterr().out == "nothing to write\n"
    bundles.render(check=True)


@pytest.mark.parametrize("damage", ["edit", "delete", "left over"])
def test_the_check_finds_what_differs_and_rendering_repairs_it(copy, damage):
    before = contents(copy)
    folder = copy / "bundles" / bundles.all_bundles()[0].name / "configs"
    path = folder / ("profiles/old.json" if damage == "left over" else "train.json")
    if damage == "delete":
        path.unlink()
    else:
        path.write_text("{}\n")
    damaged = contents(copy)
    with pytest.raises(ValueError, match=rf"rendered files are stale \(bundles/\S+{path.name}\); run"):
        bundles.render(check=True)
    assert contents(copy) == damaged
    bundles.render()
    assert contents(copy) == before


def test_a_stale_file_ends_the_command_with_a_sentence(copy, capsys):
    next(copy.glob("bundles/*/configs/inference.json")).unlink()
    assert main(["bundles", "render", "--check"]) == 1
    assert capsys.readouterr().err.startswith("error: rendered files are stale")


def test_training_a_bundle_keeps_weights_and_run_file(copy, monkeypatch, tmp_path):
    folder = next((copy / "bundles").iterdir())
    calls = []

    def fake(bundle, profiles, work_dir, overrides):
        calls.append((bundle, profiles, overrides))
        work_dir.mkdir(parents=True)
        (work_dir / "model.pt").write_bytes(b"weights")
        return json.loads(RECORD)

    monkeypatch.setattr(bundles, "find_bundle", lambda name: folder)
    monkeypatch.setattr(bundles, "train_and_evaluate", fake)
    bundles.train(folder.name, dataset_dir="there", work_dir=str(tmp_path / "work"))
    assert calls == [(folder, [], {"dataset_dir": "there"})]
    assert (folder / "models" / "model.pt").read_bytes() == b"weights"
    assert json.loads((folder / "docs" / "runs" / "training.json").read_text()) == json.loads(RECORD)
    page = (folder / "docs" / "README.md").read_text()
    assert "| Anterior | 0.9000 ± 0.0100 |" in page
    assert "10: 0.5000, 20: 0.8000" in page
    assert "Not measured on a GPU." in page


STATISTICS = {"mean": 0.9, "std": 0.01, "n": 3}
METRICS = dict.fromkeys(("dice", "iou", "voe", "rvd", "mean_surface_distance", "hd95"), STATISTICS)
RECORD = json.dumps(
    {
        "epochs": 20,
        "train_seconds": 90.0,
        "parameters": 1234567,
        "macs": 2_500_000_000,
        "metrics": {
            "cases": 3,
            "policy": {"grid": "original", "empty in both": "no value"},
            "classes": {"Anterior": METRICS, "Posterior": METRICS},
            "mean": {"dice": 0.9},
        },
        "curve": [{"epoch": 10, "validation_metric": 0.5}, {"epoch": 15}, {"epoch": 20, "validation_metric": 0.8}],
        "machine": {"device": "a processor", "threads": 2},
    }
)
