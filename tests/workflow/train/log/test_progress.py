"""A training says one line per epoch, and writes its curve."""

from __future__ import annotations

import csv
import logging
import re
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from custom_networks.workflow import TrainingProgress

LOGGER = "custom_networks.workflow.train.log.progress"
HEADER = ["epoch", "loss", "learning_rate", "seconds", "validation_metric"]


class Scores:
    """The Dice of two classes, of which one has no value."""

    def __init__(self) -> None:
        self.classes = {"heart": 0.75, "lung, left": float("nan")}

    def __str__(self) -> str:
        return "heart 0.750, lung, left -; worst case b 0.5"


def progress_of(path, interval: int, losses, epochs: range, scores=None, steps=None) -> None:
    """Train the given epochs, losses times epoch, with a validation every few of them, as ValidationHandler does."""
    evaluator = Engine(lambda *_: None)
    evaluator.state.key_metric_name = "dice"
    trainer = Engine(lambda engine, loss: (steps and steps(engine), [{"loss": loss * engine.state.epoch}])[1])
    trainer.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    trainer.state.epoch = epochs.start - 1
    trainer.state.iteration = (epochs.start - 1) * len(losses)
    trainer.state.max_epochs = epochs.stop - 1
    trainer.state.epoch_length = len(losses)

    @trainer.on(Events.EPOCH_COMPLETED(every=interval))
    def _validate(engine):
        evaluator.state.epoch = engine.state.epoch
        evaluator.state.metrics["dice"] = engine.state.epoch / 10

    TrainingProgress(evaluator, path, interval, "mean Dice", scores).attach(trainer)
    trainer.run(losses)


def rows(path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that advances by one second with every look."""
    monkeypatch.setattr(f"{LOGGER}.time", SimpleNamespace(monotonic=count().__next__))


def test_the_curve_has_one_row_per_epoch(tmp_path):
    path = tmp_path / "eval" / "training_curve.csv"
    progress_of(path, 2, [1.0, 2.0, 6.0], range(1, 5))
    assert rows(path) == [
        HEADER,
        ["1", "3.000000", "0.5", "7.0", ""],
        ["2", "6.000000", "0.5", "7.0", "0.200000"],
        ["3", "9.000000", "0.5", "7.0", ""],
        ["4", "12.000000", "0.5", "7.0", "0.400000"],
    ]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_validated_epoch_has_the_dice_of_its_classes(tmp_path):
    path = tmp_path / "curve.csv"
    progress_of(path, 2, [1.0], range(1, 3))
    progress_of(path, 2, [1.0], range(3, 6), Scores())
    assert rows(path)[0] == [*HEADER, "dice_heart"]
    assert [row[5] for row in rows(path)[1:]] == ["", "", "", "0.750000", ""]


def test_one_line_per_epoch_and_one_per_validation(tmp_path, caplog):
    with caplog.at_level(logging.INFO, LOGGER):
        progress_of(tmp_path / "curve.csv", 2, [1.0, 3.0], range(1, 4), Scores())
    # a look at the clock when the epoch begins, when a batch is there and when a step ends, two when the epoch ends
    assert caplog.messages[0] == (
        "epoch 1/3: loss 2.0000, learning rate 0.5, 0.5 samples/s, 50 % waiting for data, 8 s left"
    )
    assert re.fullmatch(r"expected end: [\d: -]+, in 8 s", caplog.messages[1])
    # one validation of one second is known by now, and the last epoch has another
    assert caplog.messages[2].endswith(", 5 s left")
    assert (
        caplog.messages[3] == "validation after epoch 2: mean Dice 0.2000: heart 0.750, lung, left -; worst case b 0.5"
    )
    assert caplog.messages[4] == "epoch 3/3: loss 6.0000, learning rate 0.5, 0.5 samples/s, 50 % waiting for data"
    assert len(caplog.messages) == 5


def test_the_end_of_long_epochs_is_foretold_by_their_first_steps(tmp_path, caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(f"{LOGGER}.time", SimpleNamespace(monotonic=lambda: now[0]))
    seen = []

    def step(engine):
        now[0] += 40 if engine.state.iteration == 1 else 15
        seen.append([message for message in caplog.messages if message.startswith("expected end")])

    with caplog.at_level(logging.INFO, LOGGER):
        progress_of(tmp_path / "curve.csv", 9, [1.0] * 10, range(1, 3), steps=step)
    # after the third step, of which the first is left out: 17 steps of 15 seconds
    assert [len(told) for told in seen[:4]] == [0, 0, 0, 1]
    assert seen[3][0].endswith(", in 4 min 15 s")
    assert len(seen[-1]) == 1


def test_a_file_gets_no_bar_and_a_terminal_does(tmp_path, capsys, monkeypatch):
    progress_of(tmp_path / "curve.csv", 1, [1.0, 2.0], range(1, 3))
    assert not capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress_of(tmp_path / "curve.csv", 1, [1.0, 2.0], range(1, 3))
    shown = capsys.readouterr().err
    assert "epoch [2/2]: " in shown
    assert "loss=4" in shown


def test_a_resumed_training_goes_on_after_the_last_epoch_it_knows(tmp_path):
    path = tmp_path / "curve.csv"
    progress_of(path, 1, [1.0], range(1, 4))
    progress_of(path, 1, [5.0], range(3, 6))  # the row of epoch 3 was written, its checkpoint was not
    assert [(row[0], row[1]) for row in rows(path)[1:]] == [
        ("1", "1.000000"),
        ("2", "2.000000"),
        ("3", "15.000000"),
        ("4", "20.000000"),
        ("5", "25.000000"),
    ]
    with path.open("a") as file:
        file.write("6,0.1\n\nto")  # torn
    progress_of(path, 1, [7.0], range(6, 7))
    assert [row[0] for row in rows(path)] == ["epoch", *"123456"]


def test_a_new_training_replaces_the_curve_and_a_lost_one_is_started(tmp_path):
    path = tmp_path / "curve.csv"
    progress_of(path, 1, [1.0], range(1, 4))
    progress_of(path, 1, [2.0], range(1, 2))
    assert [row[1] for row in rows(path)] == ["loss", "2.000000"]
    path.unlink()
    progress_of(path, 1, [2.0], range(4, 5))
    assert rows(path) == [HEADER, ["4", "8.000000", "0.5", "3.0", "0.400000"]]


def test_only_the_first_process_says_anything(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(f"{LOGGER}.idist.get_rank", lambda: 1)
    with caplog.at_level(logging.INFO, LOGGER):
        progress_of(tmp_path / "curve.csv", 1, [1.0], range(1, 3))
    assert not list(tmp_path.iterdir())
    assert not caplog.messages
