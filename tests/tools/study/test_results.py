"""The studies that the repository keeps, and the table of all of them."""

from __future__ import annotations

import json

import pytest

from tests.synthetic import read_rows
from tools.study import kept, results

COMPARISON = """network,fold,seed,case,class,dice,nsd,hd95
ours,0,0,a,LV,0.8,0.9,2
ours,0,0,b,LV,0.6,nan,4
theirs,0,0,a,LV,0.5,0.6,
"""
VALIDATION = "fold,case,class,dice,iou,hd95\n0,a,LV,0.8,0.7,1\n1,b,LV,0.9,0.8,3\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    for module in (kept, results):
        monkeypatch.setattr(module, "STUDIES", tmp_path / "docs" / "studies")
    monkeypatch.setattr(results, "CSV", tmp_path / "results.csv")
    monkeypatch.setattr(results, "BUNDLES", tmp_path / "bundles")
    monkeypatch.setattr(results, "PAGE", tmp_path / "docs" / "results.md")
    monkeypatch.setattr(kept, "_commit", lambda: "abc123")
    return tmp_path


@pytest.fixture
def compared(tmp_path):
    folder = tmp_path / "compared"
    folder.mkdir()
    facts = {"bundle": "a_bundle", "train_seconds": 61.4, "step_bytes": 5}
    networks = [{"name": "ours", "facts": facts}, {"name": "theirs", "facts": {}}]
    request = {"knobs": {"dataset_dir": "/home/me/data", "batch_size": 2}}
    report = {"request": request, "networks": networks, "failed": {}}
    (folder / "comparison.json").write_text(json.dumps(report))
    (folder / "comparison.csv").write_text(COMPARISON)
    (folder / "comparison.md").write_text("a table")
    return folder


@pytest.fixture
def validated(tmp_path):
    folder = tmp_path / "validated"
    folder.mkdir()
    report = {"bundle": "a_bundle", "seed": 7, "train_seconds": {"0": 10, "1": 20.6}}
    (folder / "summary.json").write_text(json.dumps(report))
    (folder / "cross_validation.csv").write_text(VALIDATION)
    return folder


def test_studies_are_put_together(home, compared, validated, capsys):
    kept.keep(str(compared), "hearts", "ACDC", "five, by patient", "custom_networks compare ...")
    kept.keep(str(validated), "whole", "Task04", "by subject", "custom_networks cross_validate ...")
    rows = read_rows(home / "results.csv")
    assert [row["network"] for row in rows] == ["ours", "ours", "theirs", "a_bundle", "a_bundle"]
    assert rows[0] == {
        "study": "hearts",
        "dataset": "ACDC",
        "split": "five, by patient",
        "bundle": "a_bundle",
        "network": "ours",
        "fold": "0",
        "seed": "0",
        "case": "a",
        "class": "LV",
        "dice": "0.8",
        "nsd": "0.9",
        "hd95": "2",
        "train_seconds": "61",
        "step_bytes": "5",
        "version": kept.__version__,
        "commit": "abc123",
    }
    assert (rows[2]["bundle"], rows[2]["train_seconds"]) == ("", "")
    assert [(row["seed"], row["train_seconds"], row["nsd"]) for row in rows[3:]] == [("7", "10", ""), ("7", "21", "")]
    page = (home / "docs" / "results.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    assert ["", "`ours`", "LV", "0.7000 ± 0.1414", "0.9000", "3.0000 ± 1.4142", "1", "1", "2", ""] in lines
    assert ["", "`a_bundle`", "LV", "0.8500 ± 0.0707", "2.0000 ± 1.4142", "2", "1", "2", ""] in lines  # without NSD
    assert ["", "network", "class", "Dice", "NSD", "HD95 (mm)", "folds", "seeds", "cases", ""] in lines
    assert "studies/hearts/comparison.md" in page
    assert "studies/whole/comparison.md" not in page
    assert "/home/me" not in (home / "docs" / "studies" / "hearts" / "study.json").read_text()
    capsys.readouterr()
    results.results(check=True)
    assert capsys.readouterr().out == "nothing to write\n"


def test_external_sets_are_rows_of_their_own(home, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "find_bundle", lambda name: tmp_path / "bundles" / name)
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "metrics.json").write_text(
        json.dumps({"files": {"a": "/home/me"}, "surface_tolerance_mm": 2.0})
    )
    (tmp_path / "measured" / "metrics.csv").write_text("case,class,dice,nsd,hd95\na,LV,0.8,0.9,1\n")
    with pytest.raises(ValueError, match="measured holds the evaluation of a study; give --bundle with an eval"):
        kept.keep(str(tmp_path / "measured"), "fold_0", "Task04", "fold 0", "evaluate ...")
    runs = tmp_path / "bundles" / "a_bundle" / "docs" / "runs"
    runs.mkdir(parents=True)
    sides = {side: {"dice": dice, "coverage": 1.0} for side, dice in (("Left", 0.8), ("Right", 0.7))}
    poses = {"as it is": {"brain": {**sides, "problems": []}}, "turned": {"brain": {}}}
    record = {"dataset": "Brains", "structure": "Hippocampus", "poses": poses, "versions": {"torch": "2"}}
    (runs / "heads.json").write_text(json.dumps(record))
    kept.keep(str(tmp_path / "measured"), "fold_0", "Task04", "fold 0", "evaluate ...", bundle="a_bundle")
    rows = read_rows(home / "results.csv")
    assert [(row["study"], row["network"], row["class"], row["dice"]) for row in rows] == [
        ("fold_0", "a_bundle", "LV", "0.8"),
        ("whole_heads", "a_bundle", "Left Hippocampus", "0.8"),
        ("whole_heads", "a_bundle", "Right Hippocampus", "0.7"),
    ]
    page = (home / "docs" / "results.md").read_text()
    assert "## Brains, another study, as it is\n" in page
    assert "| network | class | Dice | NSD (2 mm) | HD95 (mm) | cases |" in page
    assert page.count("evaluate ...") == 1
    assert "/home/me" not in (home / "docs" / "studies" / "fold_0" / "study.json").read_text()


def test_a_row_that_somebody_edits_is_found(home, compared):
    kept.keep(str(compared), "hearts", "ACDC", "five", "command")
    (home / "results.csv").write_text((home / "results.csv").read_text().replace("0.8", "0.9"))
    with pytest.raises(ValueError, match=r"results\.csv is not what the studies say; run: python"):
        results.results(check=True)


def test_what_is_no_finished_study_is_not_kept(home, compared, tmp_path):
    with pytest.raises(ValueError, match="small letters"):
        kept.keep(str(compared), "Hearts!", "ACDC", "five", "command")
    with pytest.raises(FileNotFoundError, match="no finished study"):
        kept.keep(str(tmp_path), "hearts", "ACDC", "five", "command")
    report = json.loads((compared / "comparison.json").read_text())
    (compared / "comparison.json").write_text(json.dumps({**report, "failed": {"ours": "no memory"}}))
    with pytest.raises(ValueError, match="failed; finish them first"):
        kept.keep(str(compared), "hearts", "ACDC", "five", "command")
    assert not (home / "docs" / "studies").exists()
    (home / "docs" / "studies" / "empty").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no study\.json"):
        results.results()
