from __future__ import annotations

import pytest
from ignite.engine import Engine, Events
from torch import nn

from custom_networks.workflow import BestCheckpoint, EarlyStop


def run(tmp_path, metrics, epochs, *, interval=1, best=None, first=1):
    """Train, with the validation metric of each epoch given; return the trainer, the best and who heard of the last."""
    best = best or BestCheckpoint(nn.Linear(1, 1), tmp_path / "model.pt", [])
    evaluator = Engine(lambda *_: None)
    evaluator.state.key_metric_name = "dice"
    best.attach(evaluator)
    trainer = Engine(lambda *_: None)
    trainer.state.epoch = trainer.state.iteration = first - 1
    trainer.state.epoch_length, trainer.state.max_epochs = 1, len(metrics)

    @trainer.on(Events.EPOCH_COMPLETED(every=interval))
    def _validate(engine):
        evaluator.state.metrics["dice"] = metrics[engine.state.epoch - 1]
        evaluator.state.epoch = engine.state.epoch
        best(evaluator)

    EarlyStop(best, evaluator, epochs).attach(trainer)
    heard = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: heard.append(engine.state.epoch))
    trainer.run([0])
    assert heard[-1] == trainer.state.epoch
    return trainer, best


RISING = [0.1, 0.5, 0.4, 0.4, 0.5, 0.3, 0.9, 0.1]


@pytest.mark.parametrize(
    ("epochs", "interval", "last"), [(None, 1, 8), (3, 1, 5), (2, 1, 4), (4, 1, 6), (5, 1, 8), (3, 2, 6), (6, 2, 8)]
)
def test_it_ends_after_so_many_epochs_without_a_better_one(tmp_path, epochs, interval, last):
    trainer, _ = run(tmp_path, RISING, epochs, interval=interval)
    assert trainer.state.epoch == last


def test_a_resumed_training_ends_where_the_other_does(tmp_path):
    straight, _ = run(tmp_path, RISING, 3)
    _, best = run(tmp_path, RISING[:3], 3)
    again = BestCheckpoint(nn.Linear(1, 1), tmp_path / "model.pt", [])
    again.load_state_dict(best.state_dict())
    resumed, _ = run(tmp_path, RISING, 3, best=again, first=4)
    assert resumed.state.epoch == straight.state.epoch == 5
