"""The removal test with its runs replaced: what is run, what is kept, and what the README says about it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.synthetic import BUNDLES
from tools import ablate as ablate_module
from tools.ablate import ablate, run_path
from tools.bundles import all_bundles
from tools.recipes.segmentation.readme import read_runs, readme, removal_table, spread, verdict

BUNDLE = next(bundle for bundle in all_bundles() if bundle.removal_profiles)
PLAIN, *OTHERS = BUNDLE.removal_profiles
SHIPPED = OTHERS[-1]


def record(dice, seed=0, parameters=1000):
    classes = {name: {"dice": {"mean": dice}} for name in BUNDLE.knobs["label_names"][1:]}
    return {
        "overrides": {"seed": seed},
        "train_seconds": 60.0,
        "parameters": parameters,
        "macs": parameters * 10**6,
        "metrics": {"cases": 5, "classes": classes, "mean": {"dice": dice}},
        "machine": {"device": "a processor", "threads": 1},
    }


def pair(*differences):
    """Return three runs of the plain network and of the shipped one with these differences in Dice."""
    return {
        PLAIN: [record(0.8 + seed / 100, seed) for seed in range(len(differences))],
        SHIPPED: [record(0.8 + seed / 100 + d, seed, 1250) for seed, d in enumerate(differences)],
    }


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ((0.01, 0.02, 0.03), "**The attention helps here:** with it the mean Dice is +0.0200 (± 0.0100 over 3 seeds"),
        ((-0.01, -0.02, -0.03), "**The attention does harm here:** with it the mean Dice is -0.0200 (± 0.0100"),
        ((0.01, -0.02, 0.04), "**The attention does not help here:** with it the mean Dice is +0.0100 (± 0.0300"),
        ((0.01, 0.0, 0.02), "**The attention does not help here:**"),
        ((0.02,), "**The attention helps here:** with it the mean Dice is +0.0200 (one seed"),
    ],
)
def test_verdict(differences, words):
    sentence = verdict(pair(*differences))
    assert sentence.startswith(words)
    assert ", ".join(f"{d:+.4f}" for d in differences) in sentence


def test_no_verdict_before_all_runs_are_there():
    unfinished = pair(0.1, 0.2, 0.3)
    unfinished[SHIPPED].pop()
    for runs in (unfinished, {PLAIN: [], SHIPPED: []}, {PLAIN: [], SHIPPED: [record(0.8)]}):
        assert verdict(runs) == "The removal test has not been run for this version."


def test_table_has_a_row_per_variant_and_the_share_of_attention():
    table = removal_table(BUNDLE, pair(0.01, 0.02, 0.03)).splitlines()
    rows = [line for line in table if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [PLAIN, SHIPPED]
    assert "0.8100 ± 0.0100" in rows[0]
    assert "1,000 (0.0%)" in rows[0]
    assert "+0.0100, +0.0200, +0.0300" in rows[1]
    assert "1,250 (20.0%)" in rows[1]
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    assert any(f"python -m tools ablate {BUNDLE.name} --variants {PLAIN},{SHIPPED} --seeds 3" in line for line in table)


def test_table_of_an_unfinished_test_shows_what_there_is():
    runs = {PLAIN: [record(0.8, 0), record(0.9, 1)], OTHERS[0]: [record(0.95, 1)], SHIPPED: []}
    rows = [line for line in removal_table(BUNDLE, runs).splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [PLAIN, OTHERS[0]]
    assert "| +0.0500 |" in rows[1]  # paired by seed, not by position
    assert removal_table(BUNDLE, {PLAIN: [], SHIPPED: [record(0.8)]}) == "Not measured yet."
    assert removal_table(BUNDLE, {PLAIN: [], SHIPPED: []}) == "Not measured yet."


def test_spread():
    assert spread([0.5]) == "0.5000"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a copy of the bundle without kept runs, and render nothing but its README."""
    target = tmp_path / BUNDLE.name
    source = next(path for path in BUNDLES if path.name == BUNDLE.name)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("runs", "*.pt", "eval"))

    def render():
        (target / "docs" / "README.md").write_text(readme(BUNDLE, target))

    monkeypatch.setattr(ablate_module, "render", render)
    return target


@pytest.fixture
def trainings(monkeypatch):
    """Return the list of the trainings that were started; their Dice grows with the variant."""
    started = []

    def fake(bundle, profiles, work_dir, overrides, threads):
        variant, seed = profiles[1].stem, overrides["seed"]
        assert profiles[0].stem == "removal"
        assert threads == 1
        started.append((variant, seed))
        if (variant, seed) in broken:
            raise RuntimeError("the disk is full")
        return record(0.5 + 0.1 * BUNDLE.removal_profiles.index(variant) + 0.01 * seed, seed)

    broken = set()
    monkeypatch.setattr(ablate_module, "train_and_evaluate", fake)
    return started, broken


def test_every_variant_gets_every_seed_and_the_readme_its_table(folder, trainings):
    started, _ = trainings
    ablate(str(folder), BUNDLE.removal_profiles, seeds=3)
    assert sorted(started) == sorted((variant, seed) for variant in BUNDLE.removal_profiles for seed in range(3))
    runs = read_runs(folder, BUNDLE.removal_profiles)
    assert [[r["overrides"]["seed"] for r in group] for group in runs.values()] == [[0, 1, 2]] * len(runs)
    page = (folder / "docs" / "README.md").read_text()
    assert page.splitlines()[2].startswith("**The attention helps here:**")
    assert all(f"| `{variant}` |" in page for variant in BUNDLE.removal_profiles)
    assert "{{" not in page


def test_kept_runs_are_not_repeated(folder, trainings):
    started, broken = trainings
    broken.add((SHIPPED, 1))
    with pytest.raises(RuntimeError, match="the disk is full"):
        ablate(str(folder), f"{PLAIN},{SHIPPED}", seeds=2, jobs=1)
    assert run_path(folder, PLAIN, 0).is_file()
    assert not run_path(folder, SHIPPED, 1).exists()
    broken.clear()
    started.clear()
    ablate(str(folder), f"{PLAIN},{SHIPPED}", seeds=2)
    assert started == [(SHIPPED, 1)]
    assert json.loads(run_path(folder, SHIPPED, 1).read_text())["overrides"] == {"seed": 1}
    assert not list(folder.rglob("*.partial"))


def test_unknown_names_are_refused_before_anything_runs(folder, trainings):
    started, _ = trainings
    with pytest.raises(ValueError, match="has no profile nothing"):
        ablate(str(folder), [PLAIN, "nothing"])
    with pytest.raises(ValueError, match="there is no bundle nothing"):
        ablate("nothing", [PLAIN])
    assert started == []
