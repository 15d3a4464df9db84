"""Rendering: formatter, list of bundles, and the check that finds stale files."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace

import pytest
import torch
from monai.bundle import ConfigParser

from tests.synthetic import ROOT, SEGMENTATION, weights
from tests.tools.records import record
from tools.__main__ import main
from tools.recipes import render as module
from tools.recipes.formatting import to_json
from tools.recipes.optimizer import describe_optimizer
from tools.recipes.render import END, START, all_bundles, recipe_of, render
from tools.recipes.segmentation.train import build_train
from tools.study import train as training

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
    names = [bundle.name for bundle in all_bundles()]
    folders = {path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")}
    assert len(names) == len(set(names))
    assert set(names) == folders


def test_gates_are_warmed_up_in_a_bundle_that_says_so_and_in_no_other():
    names = [path.name for path in SEGMENTATION]
    plain = next(bundle for bundle in all_bundles() if bundle.name in names)
    gated = build_train(replace(plain, knobs={**plain.knobs, "gate_warm_up_epochs": 2}))
    without = build_train(replace(plain, knobs={k: v for k, v in plain.knobs.items() if k != "gate_warm_up_epochs"}))
    assert gated.pop("gate_warm_up_epochs") == 2
    assert gated["knob_check"].pop("gate_warm_up_epochs") == "@gate_warm_up_epochs"
    handler = gated["train"]["handlers"].pop()
    assert gated == without
    parser = ConfigParser({"code_path": "", "network": {"_target_": "torch.nn.Identity"}, "handler": handler})
    parser["gate_warm_up_epochs"] = 2
    assert parser.get_parsed_content("handler").epochs == 2


@pytest.mark.parametrize("recipe", ["segmentation", "classification"])
def test_optimiser_and_rise_of_a_bundle_are_in_its_training_and_its_words(recipe):
    plain = next(bundle for bundle in all_bundles() if bundle.recipe == recipe)
    plain = replace(plain, optimizer={}, warm_up=0.0, knobs={**plain.knobs, "clip_gradients": None, "epochs": 8})
    own = replace(
        plain,
        optimizer={"betas": [0.9, 0.98], "weight_decay": 0.05},
        warm_up=0.25,
        knobs={**plain.knobs, "clip_gradients": 1.0},
    )
    built = recipe_of(own).build_configs(own)["train.json"]
    parser = ConfigParser({"code_path": ["", ""], "epochs": 8, "learning_rate": 0.5, "network": torch.nn.Linear(1, 1)})
    for key in ("optimizer", "lr_scheduler"):
        parser[key] = built[key]
    parser["train"] = {"trainer": {"max_epochs": 8}, "dataloader": [0, 0]}
    optimizer, schedule = parser.get_parsed_content("optimizer"), parser.get_parsed_content("lr_scheduler")
    assert (tuple(optimizer.defaults["betas"]), optimizer.defaults["weight_decay"]) == ((0.9, 0.98), 0.05)
    assert (schedule.total_iters, schedule.warm_up_iters, schedule.power) == (16, 4, 0.9)
    without = recipe_of(plain).build_configs(plain)["train.json"]
    assert set(without["optimizer"]) == {"_target_", "params", "lr"}
    assert without["lr_scheduler"]["_target_"] == "torch.optim.lr_scheduler.PolynomialLR"
    assert describe_optimizer(own).startswith("AdamW (betas [0.9, 0.98], weight_decay 0.05), learning rate ")
    assert describe_optimizer(own).endswith(
        "iteration after a linear rise over 25% of the steps, gradients clipped to a norm of 1, 8 epochs"
    )
    assert describe_optimizer(plain).endswith("decay (power 0.9) per iteration, 8 epochs")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Return the root of a copy of what is rendered."""
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles", ignore=shutil.ignore_patterns("*.pt", "eval"))
    shutil.copy(ROOT / "LICENSE", tmp_path)
    for page in ("README.md", "docs/concepts/when-attention.md", "docs/bundles/index.md"):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(f"# Title\n\n{START}\nold\n{END}\n\nEnd\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    render()
    return tmp_path


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_rendering_twice_changes_nothing(copy, capsys):
    before = contents(copy)
    capsys.readouterr()
    render()
    assert contents(copy) == before
    assert capsys.readouterr().out == "nothing to write\n"
    render(check=True)


@pytest.mark.parametrize("damage", ["edit", "delete", "left over", "page"])
def test_the_check_finds_what_differs_and_rendering_repairs_it(copy, damage):
    before = contents(copy)
    configs = copy / "bundles" / all_bundles()[0].name / "configs"
    files = {"left over": configs / "profiles" / "old.json", "page": copy / "docs" / "reference" / "knobs.md"}
    path = files.get(damage, configs / "train.json")
    if damage == "delete":
        path.unlink()
    else:
        path.write_text("{}\n")
    damaged = contents(copy)
    with pytest.raises(ValueError, match=rf"rendered files are stale \(\S+/{path.name}\); run"):
        render(check=True)
    assert contents(copy) == damaged
    render()
    assert contents(copy) == before


def test_a_stale_file_ends_the_command_with_a_sentence(copy, capsys):
    next(copy.glob("bundles/*/configs/inference.json")).unlink()
    assert main(["bundles", "render", "--check"]) == 1
    assert capsys.readouterr().err.startswith("error: rendered files are stale")


@pytest.fixture(params=all_bundles(), ids=lambda bundle: bundle.name)
def bundle(request):
    return request.param


def test_the_variants_of_the_removal_test_are_profiles_and_named_once(bundle):
    names = [*bundle.removal_profiles, *bundle.single_seed_profiles]
    assert set(names) <= set(bundle.profiles)
    assert len(names) == len(set(names))


@pytest.fixture
def trainings(bundle, copy, monkeypatch):
    """Return the list of the trainings that were started; every one writes weights that tell its seed."""
    calls = []

    def fake(folder, profiles, work_dir, overrides, threads):
        seed = overrides.get("seed", 0)
        calls.append((seed, folder, profiles, overrides, threads))
        work_dir.mkdir(parents=True)
        torch.save({"layer.gates": torch.tensor([0.1, 0.1, 1.0, 0.1 + seed])}, work_dir / "model.pt")
        return record(bundle, 0.9 - seed / 100, seed)

    monkeypatch.setattr(training, "find_bundle", lambda name: copy / "bundles" / name)
    monkeypatch.setattr(training, "train_and_evaluate", fake)
    shutil.rmtree(copy / "bundles" / bundle.name / "docs" / "runs", ignore_errors=True)
    return calls


def fixed(bundle):
    """Return what a training of weights that have seen all cases is told."""
    return {"fold": "all", "val_interval": bundle.knobs["epochs"]} if bundle.study else {}


def kept_record(bundle, score, seed=0):
    """Return the run file that such a training leaves: no case is new to its weights, so it has no figures."""
    own = record(bundle, score, seed)
    if bundle.study is None:
        return own
    curve = [{key: value for key, value in point.items() if key != "validation_metric"} for point in own["curve"]]
    return {**own, "metrics": None, "curve": curve}


ROW = {
    "segmentation": "| {label} | 0.9000 ± 0.0100 |",
    "classification": "| seed 0 (shipped) | 0.900 (0.820 to 0.940) |",
}


PAGES = {"segmentation": "performance", "classification": "readme"}


def test_training_a_bundle_keeps_weights_and_run_file(bundle, copy, trainings, tmp_path):
    folder = copy / "bundles" / bundle.name
    training.train(bundle.name, dataset_dir="there", work_dir=str(tmp_path / "work"))
    assert trainings == [(0, folder, [], {"dataset_dir": "there", **fixed(bundle)}, None)]
    assert float(weights(folder / "models" / "model.pt")["layer.gates"][3]) == pytest.approx(0.1)
    assert [path.name for path in (folder / "docs" / "runs").iterdir()] == ["training.json"]
    assert json.loads((folder / "docs" / "runs" / "training.json").read_text()) == kept_record(bundle, 0.9)
    page = (folder / "docs" / "README.md").read_text()
    assert "{{" not in page
    assert result_cell(bundle) in (copy / "README.md").read_text()


@pytest.mark.parametrize("recipe", list(ROW))
def test_the_figures_of_the_held_back_fold_are_on_the_page(recipe):
    bundle = next(bundle for bundle in all_bundles() if bundle.recipe == recipe and bundle.study is None)
    describe = importlib.import_module(f"tools.recipes.{recipe}.{PAGES[recipe]}").describe_performance
    runs = record(bundle, 0.9)
    page = describe(runs, bundle) if recipe == "segmentation" else describe([runs], None, bundle)
    assert ROW[recipe].format(label=bundle.knobs["label_names"][1]) in page
    assert "10: 0.50" in page
    assert "20: 0.80" in page
    assert "Not measured on a GPU." in page


def result_cell(bundle):
    return f"| {recipe_of(bundle).state_result(kept_record(bundle, 0.9), bundle)} |"


def test_every_seed_leaves_its_run_file_but_only_the_first_its_weights(bundle, copy, trainings, tmp_path):
    folder = copy / "bundles" / bundle.name
    training.train(bundle.name, seeds=3, jobs=2, work_dir=str(tmp_path / "work"))
    assert sorted(call[0] for call in trainings) == [0, 1, 2]
    assert {(call[3].get("seed"), call[4]) for call in trainings} == {(None, 1), (1, 1), (2, 1)}
    assert float(weights(folder / "models" / "model.pt")["layer.gates"][3]) == pytest.approx(0.1)
    for seed, name in enumerate(("training.json", "training_seed1.json", "training_seed2.json")):
        kept = json.loads((folder / "docs" / "runs" / name).read_text())
        assert kept == kept_record(bundle, 0.9 - seed / 100, seed)
    assert len({path.parent for path in (tmp_path / "work").rglob("model.pt")}) == 3


def test_a_failing_seed_is_an_error_and_the_others_are_kept(bundle, copy, trainings, tmp_path, monkeypatch):
    works = training.train_and_evaluate

    def fake(folder, profiles, work_dir, overrides, threads):
        if overrides.get("seed") == 1:
            raise RuntimeError("the disk is full")
        return works(folder, profiles, work_dir, overrides, threads)

    monkeypatch.setattr(training, "train_and_evaluate", fake)
    with pytest.raises(RuntimeError, match="the disk is full"):
        training.train(bundle.name, seeds=3, work_dir=str(tmp_path / "work"))
    kept = sorted(path.name for path in (copy / "bundles" / bundle.name / "docs" / "runs").iterdir())
    assert kept == ["training.json", "training_seed2.json"]
