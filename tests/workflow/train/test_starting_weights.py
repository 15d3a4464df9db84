"""The weights at the start as the first candidate: kept unless beaten, replaced with a copy, told in one sentence."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from custom_networks.workflow import BestCheckpoint, load_weights, say_outcome, start_from
from custom_networks.workflow.train.checkpoint_files import read_checkpoint


def network(classes: int = 2) -> nn.Module:
    net = nn.Sequential()
    net.add_module("body", nn.Conv3d(1, 4, 3))
    net.add_module("head", nn.Conv3d(4, classes, 1))
    return net


def validated(metric: float, epoch: int) -> Engine:
    engine = Engine(lambda *_: None)
    engine.state.metrics = {"dice": metric}
    engine.state.key_metric_name = "dice"
    engine.state.epoch = epoch
    return engine


class Beside:
    """What remembers of which weights it was to tell."""

    def __init__(self):
        self.told = []

    def write(self, weights):
        self.told.append(("training", weights))

    def write_of_start(self, weights, start):
        self.told.append((start, weights))


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "shipped" / "model.pt"
    path.parent.mkdir()
    torch.save(network().state_dict(), path)
    return path


def marked(net: nn.Module, value: float) -> None:
    nn.init.constant_(net.head.bias, value)


def mark(path) -> float:
    return float(read_checkpoint(path)["head.bias"][0])


def test_the_weights_at_the_start_stay_until_an_epoch_is_better(tmp_path, start):
    net, beside, path = network(), Beside(), tmp_path / "tuned" / "model.pt"
    best = BestCheckpoint(net, path, [beside], start)
    found = []
    for epoch, metric in enumerate([0.8, 0.7, 0.8, math.nan, 0.9, 0.85]):
        marked(net, epoch)
        best(validated(metric, epoch))
        found.append(mark(path))
    assert found == [0, 0, 0, 0, 4, 4]
    assert beside.told == [(start, path), ("training", path)]
    assert best.state_dict() == {"best_metric": 0.9, "best_epoch": 4, "starting_metric": 0.8}
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


def test_a_resumed_training_knows_the_score_at_the_start(tmp_path, start):
    first = BestCheckpoint(network(), tmp_path / "model.pt", [], start)
    first(validated(0.8, 0))
    second = BestCheckpoint(network(), tmp_path / "model.pt", [], start)
    second.load_state_dict(first.state_dict())
    written = second.path.read_bytes()
    second(validated(0.75, 1))
    assert second.path.read_bytes() == written
    assert second.state_dict() == {"best_metric": 0.8, "best_epoch": 0, "starting_metric": 0.8}


def test_weights_without_a_score_are_the_candidate_until_one_has_one(tmp_path, start):
    net = network()
    best = BestCheckpoint(net, tmp_path / "model.pt", [], start)
    marked(net, 5)
    best(validated(math.nan, 0))
    assert mark(best.path) == 5
    marked(net, 6)
    best(validated(0.1, 1))
    assert (mark(best.path), best.best_epoch) == (6, 1)


def test_weights_that_are_replaced_in_their_place_are_kept_beside(start, caplog):
    caplog.set_level(logging.INFO)
    net, beside, before = network(), Beside(), start.read_bytes()
    start.with_name("training_cases.json").write_text("theirs")
    best = BestCheckpoint(net, start, [beside], start)
    best(validated(0.8, 0))
    best(validated(0.7, 1))
    assert start.read_bytes() == before
    assert beside.told == []
    best(validated(0.9, 2))
    best(validated(0.95, 3))
    assert start.read_bytes() != before
    assert beside.told == [("training", start)] * 2
    [kept] = [file for file in start.parent.glob("*.pt") if file != start]
    assert kept.read_bytes() == before
    assert kept.with_name(f"{kept.stem}.training_cases.json").read_text() == "theirs"
    assert f"the weights before are {kept} now" in caplog.text
    resumed = BestCheckpoint(net, start, [], start)
    resumed.load_state_dict(best.state_dict())
    resumed(validated(0.97, 4))
    assert len(list(start.parent.glob("*.pt"))) == 2


def evaluator(cases: int = 3):
    epochs = []
    state = SimpleNamespace(key_metric_name="dice", metrics={"dice": 0.5})
    loader = SimpleNamespace(dataset=range(cases))
    return SimpleNamespace(data_loader=loader, run=epochs.append, epochs=epochs, state=state)


def test_only_whole_networks_are_validated_at_the_start(start, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    plain, more, resumed = evaluator(), evaluator(), evaluator()
    net = network()
    start_from(net, start, plain)
    assert torch.equal(net.head.weight, read_checkpoint(start)["head.weight"])
    start_from(network(classes=3), start, more)
    start_from(network(), start, resumed, resumed=tmp_path / "last_checkpoint.pt")
    assert (plain.epochs, more.epochs, resumed.epochs) == ([0], [], [])
    assert caplog.messages.count("the weights at the start: dice 0.5000") == 1


def test_spread_channels_and_unused_tensors_leave_a_network_whole(start, tmp_path):
    assert load_weights(network(), start)
    assert not load_weights(network(classes=3), start, strict=False)
    channels = nn.Sequential()
    channels.add_module("body", nn.Conv3d(2, 4, 3))
    channels.add_module("head", nn.Conv3d(4, 2, 1))
    assert load_weights(channels, start, strict=False)
    torch.save({**read_checkpoint(start), "extra": torch.zeros(1)}, tmp_path / "more.pt")
    assert load_weights(network(), tmp_path / "more.pt", strict=False)


@pytest.mark.parametrize(
    ("scores", "cases", "sentence"),
    [
        ([0.9022, 0.8661], 1, "kept: no epoch is better than the weights at the start, mean Dice 0.902 on 1 case"),
        ([0.9, 0.85, 0.9211], 3, "replaced: mean Dice 0.900 to 0.921 on 3 cases"),
        ([None, 0.85], 2, "trained: mean Dice 0.850 on 2 cases; a part started anew, nothing is compared"),
    ],
)
def test_the_outcome_in_one_sentence(tmp_path, start, caplog, monkeypatch, scores, cases, sentence):
    best = BestCheckpoint(network(), tmp_path / "model.pt", [], start)
    for epoch, score in enumerate(scores):
        if score is not None:
            best(validated(score, epoch))
    caplog.set_level(logging.INFO)
    say_outcome(best, evaluator(cases), "mean Dice")
    assert [record.getMessage() for record in caplog.records] == [sentence]
    monkeypatch.setattr("custom_networks.workflow.train.starting_weights.idist.get_rank", lambda: 1)
    say_outcome(best, evaluator(cases), "mean Dice")
    assert len(caplog.records) == 1
