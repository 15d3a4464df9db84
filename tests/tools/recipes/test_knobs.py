"""The knobs of the configs: every one has a sentence, a value, and a row on the page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools.recipes import knob_page, knobs
from tools.recipes.knob_page import describe_default, render_knob_page
from tools.recipes.knobs import KNOBS, Knob, select_knobs
from tools.recipes.render import all_bundles, recipe_of, render

BUNDLES = all_bundles()


@pytest.fixture
def replace_knobs(monkeypatch):
    """Return a function that puts other knobs in the place of the table, whose order is that of the page."""

    def replace_knobs(table):
        for module in (knobs, knob_page):
            monkeypatch.setattr(module, "KNOBS", table)

    return replace_knobs


@pytest.mark.parametrize("name", ["epochs", "device", "load_pretrain", "ckpt_path"])
def test_a_knob_without_a_sentence_ends_the_rendering(name, replace_knobs):
    replace_knobs({key: knob for key, knob in KNOBS.items() if key != name})
    with pytest.raises(
        ValueError, match=f"the knob {name} has no sentence; add one to KNOBS in tools/recipes/knobs.py"
    ):
        render(check=True)


def test_a_sentence_without_a_knob_ends_the_rendering(replace_knobs):
    replace_knobs({**KNOBS, "epoch": Knob("Number of epochs.")})
    with pytest.raises(ValueError, match="no config has the knob epoch; remove it from KNOBS"):
        render(check=True)


def test_a_knob_without_a_value_is_refused():
    bundle = replace(BUNDLES[0], knobs={"seed": 3})
    assert select_knobs(bundle, "amp seed") == {"amp": True, "seed": 3}
    with pytest.raises(ValueError, match=f"{bundle.name} gives no value for epochs, which has no default"):
        select_knobs(bundle, "seed epochs")


def test_every_meaning_is_a_sentence():
    for name, knob in KNOBS.items():
        assert knob.meaning[0].isupper() and knob.meaning.endswith("."), name
        assert "|" not in knob.meaning, name


def test_the_page_has_a_row_for_every_knob_with_its_values_as_shipped():
    page = render_knob_page([(bundle, recipe_of(bundle).build_configs(bundle)) for bundle in BUNDLES])
    rows = [[cell.strip() for cell in line.split(" | ")] for line in page.splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == list(KNOBS)
    assert {len(row) for row in rows} == {5}
    row = next(row for row in rows if row[0] == "| `csv_file`")
    assert row[2:] == ['`"labels.csv"`', "", "train |"]
    row = next(row for row in rows if row[0] == "| `ckpt_dir`")
    training = "\"$@output_dir + '/finetuned' if @finetune_ckpt else @bundle_root + '/models'\""
    folders = [
        f"`{training}` (train), `\"$@bundle_root + '/models'\"` ({where})"
        for where in ("inference", "inference, inference_head")
    ]
    assert row[2:4] == folders  # classification has no heads
    row = next(row for row in rows if row[0] == "| `gate_warm_up_epochs`")
    assert row[2:] == ["", "`4` MedicalTransformer", "train |"]


def test_defaults_that_differ_are_told_by_network():
    def own(network, **knobs):
        configs = {"train.json": knobs, "evaluate.json": {"ckpt_path": "a"}, "inference.json": knobs}
        return replace(BUNDLES[0], network={"_target_": f"nets.{network}"}), configs

    bundles = [own("A", epochs=5, seed=0), own("B", epochs=6, seed=0, fold=1), own("C", epochs=5, seed=0)]
    assert describe_default("seed", bundles) == "`0`"
    assert describe_default("ckpt_path", bundles) == '`"a"`'
    assert describe_default("epochs", bundles) == "`5` A, C; `6` B"
    assert describe_default("fold", bundles) == "`1` B"
    assert describe_default("amp", bundles) == ""
    bundles[2][1]["inference.json"] = {"seed": 1}
    assert describe_default("seed", bundles) == "`0` A, B; `0` (train), `1` (inference) C"
