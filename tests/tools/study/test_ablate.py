"""The removal test with its runs replaced: what is run, what is kept, and what the README says about it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from tests.synthetic import BUNDLES
from tests.tools.records import record
from tools.recipes.markdown import format_spread
from tools.recipes.removal import Variant, read_variants
from tools.recipes.removal_text import state_verdict, tabulate_removal, tabulate_single_seeds
from tools.recipes.render import all_bundles, recipe_of
from tools.study import ablate as ablate_module
from tools.study.ablate import ablate, run_path


@pytest.fixture(params=all_bundles(), ids=lambda bundle: bundle.name)
def bundle(request):
    return request.param


@pytest.fixture
def score(bundle):
    return recipe_of(bundle).SCORE


@pytest.fixture
def plain(bundle):
    return bundle.removal_profiles[0]


@pytest.fixture
def shipped(bundle):
    return bundle.removal_profiles[-1]


def variant(bundle, profile, scores, parameters=1000):
    """Return a variant with these scores by seed."""
    return Variant(profile, {seed: record(bundle, score, seed, profile, parameters) for seed, score in scores.items()})


def pair(bundle, *differences):
    """Return the plain network and the shipped one with these differences in the score."""
    plain, *_, shipped = bundle.removal_profiles
    scores = {seed: 0.8 + seed / 100 for seed in range(len(differences))}
    changed = {seed: score + differences[seed] for seed, score in scores.items()}
    return [variant(bundle, plain, scores), variant(bundle, shipped, changed, 1250)]


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        # the reach of the interval of three: t of 2 degrees, 4.3027, times the deviation over the root of 3
        (
            (0.018, 0.02, 0.022),
            "**The attention helps here:** with it the {} changes by +0.0200 (95 % +0.0150 to +0.0250",
        ),
        (
            (-0.018, -0.02, -0.022),
            "**The attention does harm here:** with it the {} changes by -0.0200 (95 % -0.0250 to",
        ),
        (
            (0.01, 0.02, 0.03),
            "**No effect of the attention is shown here:** with it the {} changes by +0.0200 (95 % -0.0048",
        ),
        (
            (0.01, -0.02, 0.04),
            "**No effect of the attention is shown here:** with it the {} changes by +0.0100 (95 % -0.06",
        ),
        ((0.02,), "**One seed tells nothing of others:** with it the {} changes by +0.0200 (one seed"),
    ],
)
def test_verdict(bundle, score, differences, words):
    sentence = state_verdict(pair(bundle, *differences), score)
    assert sentence.startswith(words.format(score.name))
    assert ", ".join(f"{d:+.4f}" for d in differences) in sentence
    assert ("cannot be excluded" in sentence) == sentence.startswith("**No effect")


def test_the_verdict_names_each_part_of_the_attention(bundle, score):
    without, whole = pair(bundle, 0.018, 0.02, 0.022)
    assert "Each part alone" not in state_verdict([without, whole], score)
    part = variant(bundle, "part", {seed: 0.8 + seed / 100 + d for seed, d in enumerate((0.0, -0.01, 0.01))}, 1100)
    sentence = state_verdict([without, part, Variant("not run", {}), whole], score)
    assert sentence.startswith("**The attention helps here:** with it the ")
    found = (
        " Each part alone: `part` +0.0000 (95 % -0.0248 to +0.0248 over 3 seeds; by seed +0.0000, -0.0100, +0.0100)."
    )
    assert sentence.endswith(found)


def test_no_verdict_before_all_runs_are_there(bundle, score, plain, shipped):
    without, _ = pair(bundle, 0.1, 0.2, 0.3)
    _, unfinished = pair(bundle, 0.1, 0.2)
    not_run, once = Variant(plain, {}), variant(bundle, shipped, {0: 0.8})
    for variants in ([without, unfinished], [not_run, Variant(shipped, {})], [not_run, once]):
        assert state_verdict(variants, score) == "The removal test has not been run for this version."


def test_table_has_a_row_per_variant_and_the_share_of_attention(bundle, score, plain, shipped):
    table = tabulate_removal(bundle, pair(bundle, 0.01, 0.02, 0.03), score).splitlines()
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
    variants = [
        variant(bundle, plain, {0: 0.8, 1: 0.9}),
        variant(bundle, "other", {1: 0.95}),
        Variant(shipped, {}),
    ]
    rows = [line for line in tabulate_removal(bundle, variants, score).splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [plain, "other"]
    assert "| +0.0500 |" in rows[1]  # paired by seed, not by position
    for scores in ({}, {0: 0.8}):
        variants = [Variant(plain, {}), variant(bundle, shipped, scores)]
        assert tabulate_removal(bundle, variants, score) == "Not measured yet."


def test_spread():
    assert format_spread([0.5]) == "0.5000"


def row(bundle, score, variant, value, difference, parameters, macs):
    """Return a row of the table of single seeds, in which every metric has one value."""
    values = " | ".join([value] * (len(score.columns(bundle)) + 1))
    return f"| `{variant}` | {values} | {difference} | {parameters} | {macs} |"


def test_table_of_single_seeds_compares_seed_0_with_the_shipped_network(bundle, score, plain, shipped):
    singles = [variant(bundle, "a", {0: 0.78}, 2000), variant(bundle, "b", {0: 0.85}, 1500)]
    lines = tabulate_single_seeds(bundle, pair(bundle, 0.01, 0.02, 0.03), singles, score).splitlines()
    assert lines[0] == "**One seed: no ranking.**"
    assert ", 5 cases" in lines[2]
    assert "last epoch (no selection), seed 0, also in the rows repeated from the table above. Budget: " in lines[2]
    head = [*score.columns(bundle), score.name, f"difference to `{shipped}`", "parameters", "GMACs"]
    assert lines[4] == f"| variant | {' | '.join(head)} |"
    assert lines[5].count("|") == lines[4].count("|")
    assert lines[6:10] == [
        row(bundle, score, plain, "0.8000", "-0.0100", "1,000", "1.000"),
        row(bundle, score, shipped, "0.8100", "", "1,250", "1.250"),
        row(bundle, score, "a", "0.7800", "-0.0300", "2,000", "2.000"),
        row(bundle, score, "b", "0.8500", "+0.0400", "1,500", "1.500"),
    ]
    assert lines[-4] == f"python -m tools ablate {bundle.name} --variants a,b --seeds 1"
    assert "±" not in "\n".join(lines)


def test_a_single_seed_variant_with_more_seeds_shows_them_all(bundle, score):
    singles = [
        variant(bundle, "a", {0: 0.78}, 2000),
        variant(bundle, "b", {0: 0.80, 1: 0.84, 2: 0.88}, 1500),
        variant(bundle, "c", {0: 0.81}, 1250),
    ]
    table = tabulate_single_seeds(bundle, pair(bundle, 0.01, 0.02, 0.03), singles, score).splitlines()
    assert row(bundle, score, "b", "0.8400 ± 0.0400", "-0.0100, +0.0100, +0.0300", "1,500", "1.500") in table
    assert row(bundle, score, "a", "0.7800", "-0.0300", "2,000", "2.000") in table
    assert "; mean ± standard deviation where a variant has more seeds." in table[2]
    command = f"python -m tools ablate {bundle.name} --variants"
    assert table[-5:-3] == [f"{command} a,c --seeds 1", f"{command} b --seeds 3"]


def test_table_of_single_seeds_without_seed_0_of_the_others(bundle, score, plain, shipped):
    """There is nothing to compare with, and other seeds are no substitute."""
    variants = [Variant(plain, {}), variant(bundle, shipped, {1: 0.9})]
    table = tabulate_single_seeds(bundle, variants, [variant(bundle, "a", {0: 0.78}, 2000)], score).splitlines()
    rows = [line for line in table if line.startswith("| `")]
    assert rows == [row(bundle, score, "a", "0.7800", "", "2,000", "2.000")]


@pytest.fixture
def folder(bundle, tmp_path, monkeypatch):
    """Return a copy of the bundle without kept runs, and render nothing but its README."""
    target = tmp_path / bundle.name
    source = next(path for path in BUNDLES if path.name == bundle.name)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("runs", "*.pt", "eval"))

    def render():
        (target / "docs" / "README.md").write_text(recipe_of(bundle).render_readme(bundle, target))

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
    variants = read_variants(folder, bundle.removal_profiles)
    assert [list(variant.runs) for variant in variants] == [[0, 1, 2]] * len(variants)
    page = (folder / "docs" / "README.md").read_text()
    assert page.partition("\n**")[2].startswith("The attention helps here:**")
    assert all(f"| `{variant}` |" in page for variant in bundle.removal_profiles)
    assert "{{" not in page


def keep(folder, variant):
    for seed, run in variant.runs.items():
        path = run_path(folder, variant.profile, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run))


def test_the_readme_holds_the_table_of_single_seeds_once_one_was_run(bundle, score, folder, plain):
    """It comes last in its section and changes nothing else: not the verdict, not the first table."""
    for profile in bundle.removal_profiles:
        change = 0 if profile == plain else 0.02
        keep(folder, variant(bundle, profile, {seed: 0.8 + change + seed / 100 for seed in range(3)}))
    readme = recipe_of(bundle).render_readme
    alone = replace(bundle, single_seed_profiles=())
    both = replace(bundle, single_seed_profiles=("a", "b"))
    before = readme(alone, folder)
    assert "One seed: no ranking" not in before
    assert readme(both, folder) == before
    only_b = [Variant("a", {}), variant(bundle, "b", {0: 0.9})]
    keep(folder, only_b[1])
    page = readme(both, folder)
    table = tabulate_single_seeds(bundle, read_variants(folder, bundle.removal_profiles), only_b, score)
    assert row(bundle, score, "b", "0.9000", "+0.0800", "1,000", "1.000") in table.splitlines()
    assert "--variants b --seeds 1\n" in table
    assert f"\n\n{table}\n\n## Engines\n" in page
    assert page.replace(f"\n\n{table}", "") == before
    assert readme(alone, folder) == before


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
    assert not list(folder.rglob("*partial*"))


def test_unknown_names_are_refused_before_anything_runs(folder, trainings, plain):
    started, _ = trainings
    with pytest.raises(ValueError, match="has no profile nothing"):
        ablate(str(folder), [plain, "nothing"])
    with pytest.raises(ValueError, match="there is no bundle nothing"):
        ablate("nothing", [plain])
    assert started == []
