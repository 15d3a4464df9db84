"""What the README of a classification bundle says about run files made by hand."""

from __future__ import annotations

from tests.synthetic import write_patches
from tests.tools.records import record
from tools.recipes.classification.readme import (
    describe_performance,
    state_result,
    state_study,
)
from tools.recipes.removal import Variant
from tools.recipes.render import all_bundles
from tools.study import forest as forest_module

BUNDLE = next(bundle for bundle in all_bundles() if bundle.recipe == "classification")


def study(**variants):
    """Return variants, each given as its scores by seed (``None``: not run)."""
    return [
        Variant(
            name, {seed: record(BUNDLE, score, seed, name) for seed, score in enumerate(scores) if score is not None}
        )
        for name, scores in variants.items()
    ]


PLAIN = (0.80, 0.83, 0.81)


def test_the_study_is_counted_and_put_beside_chance():
    up, down, mixed = (0.81, 0.85, 0.84), (0.79, 0.82, 0.80), (0.85, 0.80, 0.81)
    sentence = state_study(study(none=PLAIN, eca=up, sim_am=down, cbam=mixed))
    assert "of 3 modules 1 (`eca`) gave a higher AUC than none in all 3 seeds and 1 (`sim_am`) a lower one" in sentence
    assert "if none had any effect, about 0.4 of each would be expected" in sentence  # 3 / 2^3
    assert "largest mean difference is +0.020 ± 0.010 (`eca`)" in sentence
    assert "runs without attention alone spread over 0.030" in sentence
    assert "interval of one run is about 0.12 wide" in sentence
    assert sentence.endswith("It does not rank the modules.")


def test_no_difference_is_neither_higher_nor_lower():
    sentence = state_study(study(none=PLAIN, eca=PLAIN, cbam=(0.80, 0.84, 0.82)))
    assert "of 2 modules 0 gave a higher AUC than none in all 3 seeds and 0 a lower one" in sentence


def test_modules_whose_runs_are_not_complete_do_not_count():
    half = {"sim_am": (0.99, None, None), "eca": (None, 0.99, 0.99), "bam": ()}
    sentence = state_study(study(none=PLAIN, **half, non_local=(0.7, 0.7, 0.7), cbam=(0.81, 0.84, 0.82)))
    assert "of 2 modules 1 (`cbam`) gave a higher AUC than none in all 3 seeds and 1 (`non_local`) a lower" in sentence
    for runs in (
        study(none=PLAIN, **half),
        study(none=(0.8,), eca=(0.9,), cbam=(0.9,)),
        study(none=(), eca=(), cbam=()),
    ):
        assert state_study(runs) == ""


def test_result():
    assert state_result(record(BUNDLE, 0.85), BUNDLE) == "AUC 0.850 (95 % interval 0.770 to 0.890, 5 cases)"


def rows(text):
    """Return the cells of the lines of tables by their first cell."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {first: rest for first, *rest in cells}


def test_performance_of_one_seed():
    text = describe_performance([record(BUNDLE, 0.85)], None, BUNDLE)
    table = rows(text)
    assert table["seed 0 (shipped)"] == ["0.850 (0.770 to 0.890)"] * 6
    assert table["normal"] == ["2", "1"]
    assert table["hyperplasia"] == ["0", "2"]
    assert not [first for first in table if first.startswith(("mean", "random forest"))]
    assert text.startswith("Split validation, 5 cases (3 normal, 2 hyperplasia), none of which was used in training")
    assert "with 2 cases of the class hyperplasia that of the AUC is 0.12 wide" in text
    assert "Its AUC on the held-out fifth by epoch: 10: 0.500, 20: 0.800." in text
    assert f"python -m tools bundles train {BUNDLE.name} --seeds 1 --jobs 2\n" in text
    assert "python -m tools forest" not in text
    assert describe_performance([], None, BUNDLE) == "Not measured yet."


def test_performance_of_several_seeds():
    text = describe_performance(
        [record(BUNDLE, score, seed) for seed, score in enumerate((0.85, 0.80, 0.90))], None, BUNDLE
    )
    assert f"python -m tools bundles train {BUNDLE.name} --seeds 3 --jobs 2\n" in text
    table = rows(text)
    assert table["seed 1"] == ["0.800 (0.720 to 0.840)"] * 6
    assert table["mean ± standard deviation"] == ["0.850 ± 0.050"] * 6
    assert len({len(cells) for name, cells in table.items() if name.startswith(("seed", "mean", "run"))}) == 1


def test_performance_holds_the_forest_that_the_tool_measured(tmp_path, monkeypatch):
    """The record is the tool's own, so that the two cannot drift apart."""
    monkeypatch.setattr(forest_module, "TREES", 3)
    report = forest_module.forest(str(write_patches(tmp_path)), seeds=2, label_names="small,large")
    text = describe_performance([record(BUNDLE, 0.85)], report, BUNDLE)
    table = {first: cells for first, cells in rows(text).items() if first.startswith("random forest")}
    assert [name.rpartition(" (")[2] for name in table] == ["16 cases)", "20 cases)"]
    for cells, entry in zip(table.values(), report["forests"], strict=True):
        assert len(cells) == 6
        assert cells[0].startswith(f"{entry['mean']['auc']:.3f} ± ")
        assert cells[5].startswith(f"{entry['mean']['brier']:.3f} ± ")
    distances = [0.85 - entry["mean"]["auc"] for entry in report["forests"]]
    assert (
        f"is {distances[0]:+.3f} from those trained on training and {distances[1]:+.3f} from those trained on training "
        "and held out, where the interval of a single run is 0.12 wide."
    ) in text
    assert f"python -m tools forest data/AdrenalMNIST3D --output bundles/{BUNDLE.name}/docs/runs/forest.json" in text
