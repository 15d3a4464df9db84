from __future__ import annotations

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import Evaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from monai.transforms import Compose, RandGaussianNoised
from torch import nn

from custom_networks.workflow import (
    LastEpochValidation,
    NonFiniteLossHandler,
    ReseedHandler,
    ResumableCheckpoint,
)

SEED = 7


class Killed(Exception):  # noqa: N818
    """What a kill is to the training."""


def build(tmp_path, *, max_epochs=4, resume=None, reseed=True, kill_after=None, record=None):
    """Return a trainer with random transforms, a shuffled loader and dropout, and its network."""
    torch.manual_seed(100)
    net = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Dropout(0.5), nn.Conv3d(2, 1, 1))
    data = [{"image": torch.full((1, 4, 4, 4), float(n)), "label": torch.full((1, 4, 4, 4), n / 5)} for n in range(5)]
    loader = DataLoader(Dataset(data, Compose([RandGaussianNoised("image", prob=1.0)])), batch_size=2, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=max_epochs,
        train_data_loader=loader,
        network=net,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[ReseedHandler(SEED)] if reseed else [],
    )
    if record is not None:
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda e: record.setdefault(e.state.epoch, []).append(
                [
                    sum(float(sample["image"].sum()) for sample in e.state.batch),
                    torch.rand(()).item(),
                    random.random(),
                    np.random.rand(),  # noqa: NPY002
                ]
            ),
        )
    if kill_after:

        @trainer.on(Events.ITERATION_COMPLETED)
        def _kill(engine):
            if engine.state.epoch > kill_after:
                raise Killed

    objects = {"model": net, "optimizer": optimizer, "trainer": trainer}
    ResumableCheckpoint(tmp_path / "last_checkpoint.pt", objects, resume).attach(trainer)
    return trainer, net


def run_interrupted(tmp_path, **options):
    """Kill a training in the middle of epoch 3 and resume it; return the network."""
    trainer, _ = build(tmp_path, kill_after=2, **options)
    with pytest.raises(Killed):
        trainer.run()
    torch.manual_seed(999)
    trainer, net = build(tmp_path, resume=tmp_path / "last_checkpoint.pt", **options)
    trainer.run()
    return net


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_killed_and_resumed_training_equals_a_straight_one(tmp_path):
    straight, resumed = {}, {}
    trainer, net = build(tmp_path, record=straight)
    trainer.run()
    other = run_interrupted(tmp_path, record=resumed)
    assert same(net, other)
    assert straight[4] == resumed[4]
    assert straight[1] != straight[2]


def test_without_the_reseeding_it_would_not(tmp_path):
    trainer, net = build(tmp_path, reseed=False)
    trainer.run()
    assert not same(net, run_interrupted(tmp_path, reseed=False))


def test_processes_get_different_seeds(monkeypatch):
    engine = SimpleNamespace(state=SimpleNamespace(epoch=3), data_loader=SimpleNamespace(dataset=[], sampler=None))
    drawn = []
    for rank in (0, 1, 0):
        monkeypatch.setattr("custom_networks.workflow.train.handlers.idist.get_rank", lambda rank=rank: rank)
        ReseedHandler(2**32 - 1)(engine)
        drawn.append((torch.rand(()).item(), random.random(), float(np.random.rand())))  # noqa: NPY002
    assert drawn[0] == drawn[2]
    assert all(a != b for a, b in zip(drawn[0], drawn[1], strict=True))


def engine_of(losses, max_epochs=1, wrap=lambda loss: [{"loss": loss}], handlers=()) -> Engine:
    """Run an engine that gives the losses one after the other."""
    engine = Engine(lambda _, loss: wrap(loss))
    engine.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    for handler in handlers:
        handler.attach(engine)
    engine.run(losses, max_epochs=max_epochs)
    return engine


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda loss: [{"loss": loss}], lambda loss: {"loss": torch.tensor(loss)}])
def test_a_loss_that_is_not_finite_stops_the_training(bad, wrap):
    engine_of([0.5, 1e30], wrap=wrap, handlers=[NonFiniteLossHandler()])
    pattern = rf"the loss became {bad} in epoch 1, step 3; look at .* set amp .* a lower learning_rate"
    with pytest.raises(ValueError, match=pattern):
        engine_of([0.5, 0.4, bad, 0.3], wrap=wrap, handlers=[NonFiniteLossHandler()])


def test_a_loss_that_is_not_finite_names_the_files_of_its_cases():
    cases = [
        {"case": "a", "image": "images/a.nii.gz"},
        {"case": "b", "image": ["images/b_0.nii.gz", "images/b_1.nii.gz"]},
        {"case": "c", "image": "images/c.nii.gz"},
    ]
    engine = Engine(lambda *_: [{"loss": math.nan}])
    engine.data_loader = SimpleNamespace(dataset=SimpleNamespace(data=cases))
    NonFiniteLossHandler().attach(engine)
    with pytest.raises(ValueError, match=r"step 1 \(images/b_0.nii.gz, images/c.nii.gz\); look"):
        engine.run([[{"case": "b"}, {"case": "c"}, {"case": "b"}]])


@pytest.mark.parametrize(("epochs", "interval", "validated"), [(5, 2, [2, 4, 5]), (4, 2, [2, 4]), (2, 9, [2])])
def test_the_last_epoch_is_always_validated_once(epochs, interval, validated):
    seen = []
    validator = Evaluator("cpu", [0], None)
    validator.run = lambda epoch: (seen.append(epoch), setattr(validator.state, "epoch", epoch))
    trainer = Engine(lambda *_: None)
    ValidationHandler(interval, validator).attach(trainer)
    LastEpochValidation(validator).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    assert seen == validated
