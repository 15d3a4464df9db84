"""What the variants of a removal test cost: what is measured, and where it is shown."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.synthetic import SEGMENTATION, config
from tests.tools.records import record
from tools.recipes.removal import COST_FILE, Variant, read_costs
from tools.recipes.removal_text import tabulate_removal, tabulate_single_seeds
from tools.recipes.render import all_bundles
from tools.recipes.segmentation.performance import SCORE
from tools.study import ablate_cost as module
from tools.study.ablate_cost import ablate_cost

SOURCE = SEGMENTATION[0]
BUNDLE = next(bundle for bundle in all_bundles() if bundle.name == SOURCE.name)
PLAIN, *_, SHIPPED = BUNDLE.removal_profiles


def result(seconds: float) -> dict:
    """Return what the measurement of one process returns."""
    measured = dict.fromkeys(module.MEASURES, seconds) | {"step_peak_mib": 100 * seconds}
    versions = {"processor": "a processor", "torch": "2", "monai": "1", "threads": 1, "dtype": "bfloat16"}
    return {**measured, **versions, "network_def": {}, "parameters": 1, "gmacs": 1.0}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    target = tmp_path / SOURCE.name
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("runs", "*.pt", "eval"))
    monkeypatch.setattr(module, "render", lambda: None)
    return target


def test_every_variant_is_measured_as_it_is_trained(folder, monkeypatch):
    measured = {}

    def fake(jobs, names, repeats):
        measured.update({name: own[0] for name, own in zip(names, jobs, strict=True)})
        return [[[result(i + n) for n in range(repeats)]] for i in range(len(jobs))]

    monkeypatch.setattr(module, "take_turns", fake)
    ablate_cost(str(folder), f"{PLAIN},{SHIPPED}", repeats=3)
    train = config(SOURCE)
    for name, job in measured.items():
        assert job["shape"] == [train["batch_size"], train["in_channels"], *train["patch_size"]]
        assert job["amp"] is train["amp"]
        assert job["threads"] == 1
        profile = json.loads((folder / "configs" / "profiles" / f"{name}.json").read_text())
        assert {key: job["config"]["network_def"][key.partition("#")[2]] for key in profile} == profile
    costs = json.loads((folder / COST_FILE).read_text())
    assert [costs["variants"][name]["step_seconds"] for name in (PLAIN, SHIPPED)] == [1, 2]
    assert costs["repeats"] == 3


def variants(*profiles: str) -> list[Variant]:
    return [Variant(profile, {0: record(BUNDLE, 0.8, 0, profile)}) for profile in profiles]


def test_the_tables_show_what_was_measured(folder):
    costs = {
        "shape": [2, 1, 8, 8, 8],
        "dtype": "bfloat16",
        "threads": 2,
        "repeats": 5,
        "machine": {"processor": "a processor"},
        "variants": {
            SHIPPED: {"step_seconds": 0.1234, "step_peak_mib": 567.8},
            "a": {"step_seconds": 2, "step_peak_mib": 3},
        },
    }
    assert read_costs(folder) is None
    (folder / COST_FILE).parent.mkdir(parents=True)
    (folder / COST_FILE).write_text(json.dumps(costs))
    first = tabulate_removal(BUNDLE, variants(PLAIN, SHIPPED), SCORE, read_costs(folder)).splitlines()
    assert first[2].endswith(" | step, s | step peak, MiB |")
    assert first[4].endswith(" |  |  |")
    assert first[5].endswith(" | 0.123 | 568 |")
    assert any(
        line.startswith("Step: forward, cross-entropy, backward and AdamW on 2 x 1 x 8 x 8 x 8, bf") for line in first
    )
    assert f"python -m tools ablate cost {BUNDLE.name} --variants {SHIPPED},a" in first
    assert "The same without a training: `a` 2.000 s and 3 MiB." in "\n".join(first)
    second = tabulate_single_seeds(BUNDLE, variants(PLAIN, SHIPPED), variants("a", "b"), SCORE, costs).splitlines()
    assert [line.rpartition(" | ")[2] for line in second if line.startswith("| `")] == [" |", "568 |", "3 |", " |"]
    assert "Step:" not in "\n".join(second)


def test_without_measurements_the_tables_have_no_such_columns():
    costs = {"variants": {"another": {"step_seconds": 1, "step_peak_mib": 1}}}
    table = tabulate_removal(BUNDLE, variants(PLAIN, SHIPPED), SCORE)
    assert tabulate_removal(BUNDLE, variants(PLAIN, SHIPPED), SCORE, costs) == table
    assert "step" not in table


def test_unknown_variants_are_refused(folder):
    with pytest.raises(ValueError, match="has no profile absent; use one of"):
        ablate_cost(str(folder), f"{PLAIN},absent")
    with pytest.raises(ValueError, match="repeats must be an integer of at least 1, got 0"):
        ablate_cost(str(folder), PLAIN, repeats=0)
