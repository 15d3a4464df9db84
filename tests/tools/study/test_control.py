"""The positive control: what is trained, kept, not trained again, and said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from custom_networks.registry import ATTENTION
from tools.__main__ import main
from tools.study import control as tool
from tools.study import control_run
from tools.study.control_run import COORDINATES, INSTANCE_NORM, NETWORKS, PLAIN, build, run_path
from tools.study.control_tasks import TASKS, draw

AS_SHIPPED = dict(control_run.RECIPE)
ASK = {"modules": "plain,eca", "tasks": "near,what", "seeds": 2, "steps": 2, "jobs": 1}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    for name, value in {"batch_size": 2, "volumes": 3}.items():
        monkeypatch.setitem(control_run.RECIPE, name, value)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, str, int]]:
    """What is trained, in turn, in this process."""
    calls = []
    train = control_run.train

    def spy(network, task, seed, steps):
        calls.append((network, task, seed))
        return train(network, task, seed, steps)

    def here(command, environment, log, kept_open):
        assert environment["OMP_NUM_THREADS"] == "1" and kept_open > 2
        job = json.loads(command[-1])
        control_run.run(Path(job.pop("folder")), **job)
        return 0

    monkeypatch.setattr(control_run, "train", spy)
    monkeypatch.setattr(tool.CHILDREN, "run", here)
    return calls


@pytest.fixture
def ask(tmp_path):
    """Call the command in a folder of its own and return its exit code."""
    places = {"work_dir": str(tmp_path / "work"), "output": str(tmp_path / "kept" / "control.json")}

    def call(**arguments) -> int:
        options = {**ASK, **places, **arguments}
        return main(["study", "control", *(f"--{name}={value}" for name, value in options.items())])

    return call


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_starts_as_the_plain_one_and_learns_in_all_its_parts(network):
    torch.manual_seed(0)
    model = build(network, "what").train()
    volumes = draw("what", (0,), 2)
    if network in ATTENTION:
        torch.manual_seed(0)
        plain, image = build(PLAIN, "what").eval(), torch.from_numpy(volumes.images)
        assert torch.equal(model.eval()(image), plain(image))
        (point,) = model.coarsest.plugged_attention
        assert isinstance(point.attention, ATTENTION[network])
        point.gamma.data.fill_(0.5)
        model.train()
    control_run._loss(model, volumes).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_variants_of_the_plain_network():
    assert build(COORDINATES, "near").network.fine[0].in_channels == 4
    kinds = [type(build(name, "near").fine[1]).__name__ for name in (PLAIN, INSTANCE_NORM)]
    assert kinds == ["BatchNorm3d", "InstanceNorm3d"]
    assert [build(PLAIN, task).fine[0].padding_mode for task in TASKS] == ["zeros", "zeros", "zeros", "circular"]


@pytest.mark.parametrize("network", [PLAIN, COORDINATES, "squeeze_excitation"])
def test_the_way_down_alone_learns_at_a_share_of_the_rate(network, monkeypatch):
    built = build(network, "what")
    start = {name: parameter.clone() for name, parameter in built.named_parameters()}
    monkeypatch.setattr(control_run, "build", lambda *_: built)
    monkeypatch.setitem(control_run.RECIPE, "trunk", 0.0)
    control_run.train(network, "what", 0, 2)
    still = [name for name, parameter in built.named_parameters() if torch.equal(parameter, start[name])]
    levels = [next(part for part in name.split(".") if part != "network") for name in still]
    assert {level: levels.count(level) for level in levels} == {"fine": 3, "middle": 6, "coarsest": 6}


def test_a_training_learns_and_is_measured_on_other_volumes(monkeypatch):
    keys = []

    def easy(task, key, count):
        """The blobs themselves say the class: twelve steps suffice."""
        keys.append(key)
        volumes = draw(task, key, count)
        blobs = volumes.blobs.any(1)[:, None]
        volumes.images[:] += 4 * blobs * (volumes.classes[:, :1, None, None, None] - 0.5)
        return volumes

    monkeypatch.setattr(control_run, "draw", easy)
    monkeypatch.setitem(control_run.RECIPE, "volumes", 70)
    monkeypatch.setitem(control_run.RECIPE, "batch_size", 4)
    record = control_run.train(PLAIN, "what", 7, 30)
    assert record["correct"] >= 65 and record["loss"] < 0.3
    assert keys == [(0, 7, step) for step in range(30)] + [(1, 7, 0), (1, 7, 1)]
    assert record == {**record, **control_run.request(PLAIN, "what", 7, 30)}
    assert record["parameters"] == sum(p.numel() for p in build(PLAIN, "what").parameters())


def test_a_coin_is_right_by_chance(monkeypatch):
    """A logit that does not depend on the volume is right as often as its class is drawn."""
    classes = [draw("which", (1, 0, number), 64).classes[:, 0] for number in range(2)]
    always = torch.nn.Conv3d(1, 1, 1)
    torch.nn.init.zeros_(always.weight), torch.nn.init.ones_(always.bias)
    assert control_run.correct(always, "which", 0, 100) == classes[0].sum() + classes[1][:36].sum()


def test_the_command_trains_keeps_and_writes(ask, trained, tmp_path, capsys):
    assert ask() == 0
    cells = [(network, task) for task in ("near", "what") for network in ("plain", "eca")]
    assert trained == [(*cell, seed) for cell in cells for seed in range(2)]
    file = tmp_path / "kept" / "control.json"
    report = json.loads(file.read_text())
    work = tmp_path / "work"
    for network, task, seed in trained:
        record = json.loads(run_path(work, network, task, seed).read_text())
        assert report["runs"][network][task][str(seed)]["correct"] == record["correct"]
    assert set(report["reach"]["eca"]) == {"near", "what"} and str(tmp_path) not in file.read_text()
    rows = [line for line in file.with_suffix(".md").read_text().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["plain", "eca"]
    assert "plain, near: " in capsys.readouterr().out


def test_what_is_done_is_not_done_again_and_a_failure_loses_nothing(ask, trained, tmp_path, monkeypatch, capsys):
    train = control_run.train

    def broken(network, task, seed, steps):
        if (network, seed) == ("eca", 1):
            raise RuntimeError("the disk is full")
        return train(network, task, seed, steps)

    monkeypatch.setattr(control_run, "train", broken)
    assert ask(tasks="near") == 1
    assert "the disk is full" in capsys.readouterr().err and not (tmp_path / "kept").exists()
    assert trained == [("plain", "near", 0), ("plain", "near", 1), ("eca", "near", 0)]
    monkeypatch.setattr(control_run, "train", train)
    trained.clear()
    assert ask(tasks="near") == 0
    assert trained == [("eca", "near", 1)]
    assert ask(tasks="near") == 0
    assert len(trained) == 1


def test_a_result_is_added_to(ask, trained, tmp_path, capsys):
    assert ask(tasks="near", seeds=1) == 0
    file = tmp_path / "kept" / "control.json"
    before = json.loads(file.read_text())
    trained.clear()
    elsewhere = str(tmp_path / "other")
    assert ask(tasks="near", seeds=2, modules="eca", work_dir=elsewhere) == 0
    assert trained == [("eca", "near", 1)]
    report = json.loads(file.read_text())
    assert report["runs"]["plain"] == before["runs"]["plain"]
    assert report["runs"]["eca"]["near"]["0"] == before["runs"]["eca"]["near"]["0"]
    again = json.loads(run_path(Path(elsewhere), "eca", "near", 1).read_text())
    assert report["runs"]["eca"]["near"]["1"] == {key: again[key] for key in tool.OF_A_RUN}
    assert ask(tasks="near", seeds=1, modules="eca", work_dir=elsewhere, steps=3) == 1
    assert "control.json has runs of other steps; give another --output" in capsys.readouterr().err
    report["runs"]["eca"]["near"]["0"]["parameters"] += 1
    file.write_text(json.dumps(report))
    assert ask(tasks="near", seeds=1, modules="plain", work_dir=elsewhere) == 1
    assert "has another number of parameters by now; take its runs out of" in capsys.readouterr().err
    assert json.loads(file.read_text()) == report and len(trained) == 1


def test_what_does_not_fit_is_refused_before_anything_is_trained(ask, trained, tmp_path, capsys):
    for arguments, says in (
        ({"modules": "plain,ecca"}, "there is no module 'ecca'; use for example 'eca'"),
        ({"tasks": "which2"}, "there is no task 'which2'; use for example 'which'"),
        ({"seeds": 0}, "--seeds must be a number from 1, got 0"),
        ({"jobs": "two"}, "--jobs must be a number from 1, got two"),
    ):
        assert ask(**arguments) == 1
        assert says in capsys.readouterr().err
    assert not trained and not (tmp_path / "work").exists()
    assert ask(tasks="near", modules="plain", seeds=1) == 0
    assert ask(tasks="near", modules="plain", seeds=1, steps=3, output=tmp_path / "other.json") == 1
    assert "plain_near_seed0.json is a run of other steps" in capsys.readouterr().err
    with tool._alone_in(tmp_path / "work"):
        assert ask(tasks="near", modules="plain", seeds=1) == 1
    assert "another command trains in" in capsys.readouterr().err


def test_reach_is_a_matter_of_accuracy_and_its_interval(monkeypatch):
    monkeypatch.setitem(control_run.RECIPE, "volumes", 512)
    found = {n: tool.reach([n, n]) for n in (256, 290, 400, 500)}
    assert [own["solved"] for own in found.values()] == ["no", "no", "partly", "yes"]
    assert found[256]["accuracy"] == 0.5
    assert found[256]["interval"] == pytest.approx([0.469, 0.531], abs=1e-3)


def test_the_table_has_a_line_per_network_and_says_where_seeds_differ():
    def run(correct, parameters):
        return {"correct": correct, "parameters": parameters, "train_seconds": 1800, "torch": "2"}

    runs = {"plain": {"near": {"0": run(512, 12345), "1": run(512, 12345)}}}
    runs["eca"] = {"near": {"0": run(256, 12350), "1": run(510, 12350)}, "which": {"0": run(250, 12350)}}
    report = {"runs": runs, "volumes": 512, "steps": 1000, "batch_size": 8, "command": "run me"}
    solved = {"accuracy": 1.0, "interval": [0.99, 1.0], "solved": "yes"}
    half = {"accuracy": 0.5, "interval": [0.47, 0.53], "solved": "no"}
    report["reach"] = {"plain": {"near": solved}, "eca": {"near": half, "which": half}}
    text = tool.page(report)
    assert "5 trainings, 2.5 hours of one CPU thread, torch 2." in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        "| `plain` | **1.00 (0.99 to 1.00)** |  |  |  | 12,345 |",
        "| `eca` | 0.50 (0.47 to 0.53; seeds 0.50 to 1.00) |  | 0.50 (0.47 to 0.53) |  | 12,350 |",
    ]


@pytest.mark.slow
def test_each_training_has_a_process_of_its_own(tmp_path, monkeypatch):
    for name, value in AS_SHIPPED.items():
        monkeypatch.setitem(control_run.RECIPE, name, value)
    places = [f"--work_dir={tmp_path / 'work'}", f"--output={tmp_path / 'control.json'}"]
    assert main(["study", "control", "--modules=plain,eca", "--tasks=near", "--seeds=1", "--steps=2", *places]) == 0
    assert set(json.loads((tmp_path / "control.json").read_text())["runs"]) == {"plain", "eca"}
