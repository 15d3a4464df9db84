"""The removal test with its runs replaced: what is run, what is kept, and what the README says about it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.records import record
from tests.synthetic import BUNDLES
from tools import ablate as ablate_module
from tools.ablate import ablate, run_path
from tools.bundles import all_bundles, recipe
from tools.recipes.removal import read_runs, removal_table, spread, verdict


@pytest.fixture(params=all_bundles(), ids=lambda bundle: bundle.name)
def bundle(request):
    return request.param


@pytest.fixture
def score(bundle):
    return recipe(bundle).SCORE


@pytest.fixture
def plain(bundle):
    return bundle.removal_profiles[0]


@pytest.fixture
def shipped(bundle):
    return bundle.removal_profiles[-1]


def pair(bundle, *differences):
    """Return runs of the plain network and of the shipped one with these differences in the score."""
    plain, *_, shipped = bundle.removal_profiles
    return {
        plain: [record(bundle, 0.8 + seed / 100, seed, plain) for seed in range(len(differences))],
        shipped: [record(bundle, 0.8 + seed / 100 + d, seed, shipped, 1250) for seed, d in enumerate(differences)],
    }


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ((0.01, 0.02, 0.03), "**The attention helps here:** with it the {} is +0.0200 (± 0.0100 over 3 seeds"),
        ((-0.01, -0.02, -0.03), "**The attention does harm here:** with it the {} is -0.0200 (± 0.0100"),
        ((0.01, -0.02, 0.04), "**The attention does not help here:** with it the {} is +0.0100 (± 0.0300"),
        ((0.01, 0.0, 0.02), "**The attention does not help here:**"),
        ((0.02,), "**The attention helps here:** with it the {} is +0.0200 (one seed"),
    ],
)
def test_verdict(bundle, score, differences, words):
    sentence = verdict(pair(bundle, *differences), score)
    assert sentence.startswith(words.format(score.name))
    assert ", ".join(f"{d:+.4f}" for d in differences) in sentence


def test_no_verdict_before_all_runs_are_there(bundle, score, plain, shipped):
    unfinished = pair(bundle, 0.1, 0.2, 0.3)
    unfinished[shipped].pop()
    for runs in (unfinished, {plain: [], shipped: []}, {plain: [], shipped: [record(bundle, 0.8, 0, shipped)]}):
        assert verdict(runs, score) == "The removal test has not been run for this version."


def test_table_has_a_row_per_variant_and_the_share_of_attention(bundle, score, plain, shipped):
    table = removal_table(bundle, pair(bundle, 0.01, 0.02, 0.03), score).splitlines()
    rows = [line for line in table if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [plain, shipped]
    assert "0.8100 ± 0.0100" in rows[0]
    assert "1,000 (0.0%)" in rows[0]
    assert "+0.0100, +0.0200, +0.0300" in rows[1]
    assert "1,250 (20.0%)" in rows[1]
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    assert any(f"python -m tools ablate {bundle.name} --variants {plain},{shipped} --seeds 3" in line for line in table)
    (head,) = [line for line in table if line.startswith("| variant")]
    assert head.count("|") == rows[0].count("|")
    assert f"| {score.name} |" in head
    assert ", 5 cases" in table[0]


def test_table_of_an_unfinished_test_shows_what_there_is(bundle, score, plain, shipped):
    other = bundle.removal_profiles[1]
    runs = {
        plain: [record(bundle, 0.8, 0, plain), record(bundle, 0.9, 1, plain)],
        other: [record(bundle, 0.95, 1, other)],
        shipped: [],
    }
    rows = [line for line in removal_table(bundle, runs, score).splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [plain, other]
    assert "| +0.0500 |" in rows[1]  # paired by seed, not by position
    for group in ([], [record(bundle, 0.8, 0, shipped)]):
        assert removal_table(bundle, {plain: [], shipped: group}, score) == "Not measured yet."


def test_spread():
    assert spread([0.5]) == "0.5000"


@pytest.fixture
def folder(bundle, tmp_path, monkeypatch):
    """Return a copy of the bundle without kept runs, and render nothing but its README."""
    target = tmp_path / bundle.name
    source = next(path for path in BUNDLES if path.name == bundle.name)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("runs", "*.pt", "eval"))

    def render():
        (target / "docs" / "README.md").write_text(recipe(bundle).readme(bundle, target))

    monkeypatch.setattr(ablate_module, "render", render)
    return target


@pytest.fixture
def trainings(bundle, monkeypatch):
    """Return the list of the trainings that were started; their score grows with the variant."""
    started = []

    def fake(_, profiles, work_dir, overrides, threads):
        variant, seed = profiles[1].stem, overrides["seed"]
        assert profiles[0].stem == "removal"
        assert threads == 1
        started.append((variant, seed))
        if (variant, seed) in broken:
            raise RuntimeError("the disk is full")
        return record(bundle, 0.5 + 0.02 * bundle.removal_profiles.index(variant) + 0.01 * seed, seed, variant)

    broken = set()
    monkeypatch.setattr(ablate_module, "train_and_evaluate", fake)
    return started, broken


def test_every_variant_gets_every_seed_and_the_readme_its_table(bundle, folder, trainings):
    started, _ = trainings
    ablate(str(folder), bundle.removal_profiles, seeds=3)
    assert sorted(started) == sorted((variant, seed) for variant in bundle.removal_profiles for seed in range(3))
    runs = read_runs(folder, bundle.removal_profiles)
    assert [[r["overrides"]["seed"] for r in group] for group in runs.values()] == [[0, 1, 2]] * len(runs)
    page = (folder / "docs" / "README.md").read_text()
    assert page.splitlines()[2].startswith("**The attention helps here:**")
    assert all(f"| `{variant}` |" in page for variant in bundle.removal_profiles)
    assert "{{" not in page


def test_kept_runs_are_not_repeated(folder, trainings, plain, shipped):
    started, broken = trainings
    broken.add((shipped, 1))
    with pytest.raises(RuntimeError, match="the disk is full"):
        ablate(str(folder), f"{plain},{shipped}", seeds=2, jobs=1)
    assert run_path(folder, plain, 0).is_file()
    assert not run_path(folder, shipped, 1).exists()
    broken.clear()
    started.clear()
    ablate(str(folder), f"{plain},{shipped}", seeds=2)
    assert started == [(shipped, 1)]
    assert json.loads(run_path(folder, shipped, 1).read_text())["overrides"] == {"seed": 1}
    assert not list(folder.rglob("*.partial"))


def test_unknown_names_are_refused_before_anything_runs(folder, trainings, plain):
    started, _ = trainings
    with pytest.raises(ValueError, match="has no profile nothing"):
        ablate(str(folder), [plain, "nothing"])
    with pytest.raises(ValueError, match="there is no bundle nothing"):
        ablate("nothing", [plain])
    assert started == []
