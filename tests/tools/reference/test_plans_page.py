"""The page of plans says what the plans are, and they are those that the rules make."""

from __future__ import annotations

import json
import math

import pytest

from custom_networks.files import read_json
from tests.synthetic import ROOT
from tools.__main__ import main
from tools.reference import plans as module
from tools.reference.plans import BUNDLES, FINGERPRINTS, PLANNERS, PLANS, _bytes_of_nnunet, _row, page

ORIGINAL = ROOT.parent / "shared" / "data" / "nnunet_plans.json"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    file = tmp_path / PLANS.name
    file.write_text(PLANS.read_text())
    monkeypatch.setattr(module, "PLANS", file)
    return tmp_path


def test_the_page_is_written_and_checked(folder, capsys):
    assert main(["plans"]) == 0
    text = (folder / "plans.md").read_text()
    assert text == PLANS.with_suffix(".md").read_text()
    assert main(["plans", "--check"]) == 0
    (folder / "plans.md").write_text(text.replace("| 8 GB |", "| 9 GB |", 1))
    capsys.readouterr()
    assert main(["plans", "--check"]) == 1
    assert capsys.readouterr().err == "error: plans.md is stale; run: python -m tools plans\n"
    (folder / "plans.json").unlink()
    assert main(["plans"]) == 1
    assert "does not exist; run: python -m tools plans make" in capsys.readouterr().err


def test_every_set_memory_and_network_is_there():
    facts, plans = read_json(FINGERPRINTS)["sets"], read_json(PLANS)
    assert list(facts) == list(plans)
    for rows in plans.values():
        assert len(rows) == len(BUNDLES) * (len(PLANNERS) + 1)
        assert len({(row["network"], row["memory"]) for row in rows}) == len(rows)
    with pytest.raises(
        ValueError, match="plans for Task04_Hippocampus, not for the fingerprints; run: python -m tools"
    ):
        page({"Task04_Hippocampus": []}, read_json(FINGERPRINTS))


def test_a_plan_is_what_the_rules_make():
    """The cheapest one; the others change with the same rules."""
    facts = read_json(FINGERPRINTS)["sets"]["Task04_Hippocampus"]
    row = _row(BUNDLES[0], 8, facts, _bytes_of_nnunet(facts))
    assert row in read_json(PLANS)["Task04_Hippocampus"], "the plans are out of date; run: python -m tools plans make"


def test_ours_are_no_smaller_unless_a_voxel_costs_more():
    facts, plans = read_json(FINGERPRINTS)["sets"], read_json(PLANS)
    for name, rows in plans.items():
        planned = facts[name]["nnunet"][PLANNERS[8]]
        for row in rows:
            if row["memory"] is not None:
                smaller = (
                    math.prod(row["patch_size"]) * row["batch_size"]
                    < math.prod(planned["patch_size"]) * planned["batch_size"]
                )
                covers = all(n >= size for n, size in zip(row["patch_size"], facts[name]["median"], strict=True))
                assert not smaller or row["bytes_per_voxel"] > 1 or covers, (name, row)


@pytest.mark.skipif(not ORIGINAL.is_file(), reason="nnU-Net's plans are not here")
def test_the_fingerprints_are_those_of_nnunet():
    original, facts = json.loads(ORIGINAL.read_text())["plans"], read_json(FINGERPRINTS)["sets"]
    assert set(original) == set(facts)
    for name, own in facts.items():
        for planner, planned in own["nnunet"].items():
            theirs = original[name][planner]
            assert planned["patch_size"] == theirs["patch"][::-1]
            assert planned["batch_size"] == theirs["batch"]
            assert planned["features"] == theirs["features"]
            assert planned["strides"] == [step[::-1] for step in theirs["strides"][1:]]
            assert own["median"] == theirs["median"][::-1]
            assert own["spacing"] == theirs["spacing"][::-1]
