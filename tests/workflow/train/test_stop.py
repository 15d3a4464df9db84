"""A training that is asked to end finishes its step, and goes on behind it as if nobody had asked."""

from __future__ import annotations

import os
import random
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandGaussianNoised
from torch import nn

from custom_networks.workflow import ReseedHandler, ResumableCheckpoint, TrainingProgress
from custom_networks.workflow.guard import interrupts
from custom_networks.workflow.guard.interrupts import Progress, Terminated, asked_to_stop, say_interrupted
from custom_networks.workflow.train import checkpoint as module
from custom_networks.workflow.train.log.curve import read_curve

STEPS = 4


@pytest.fixture
def progress(monkeypatch):
    own = Progress(trains=True)
    monkeypatch.setattr(interrupts, "PROGRESS", own)
    monkeypatch.setattr(module, "PROGRESS", own)
    return own


def training(folder, progress, *, resume=None, ask_at=None, num_workers=0, accumulate=1):
    """Return a trainer of three epochs with everything random, and its network; somebody asks in the given step."""
    torch.manual_seed(100)
    net = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Dropout(0.5), nn.Conv3d(2, 1, 1))
    data = [{key: torch.full((1, 4, 4, 4), n / 5) for key in ("image", "label")} for n in range(2 * STEPS - 1)]
    noisy = Dataset(data, Compose([RandGaussianNoised("image", prob=1.0)]))
    evaluator = SimpleNamespace(state=SimpleNamespace(epoch=0, key_metric_name="dice"))
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=DataLoader(noisy, batch_size=2, shuffle=True, num_workers=num_workers),
        network=net,
        optimizer=torch.optim.Adam(net.parameters(), lr=0.01),
        loss_function=nn.MSELoss(),
        train_handlers=[ReseedHandler(7), TrainingProgress(evaluator, folder / "curve.csv")],
        accumulation_steps=accumulate,
    )

    @trainer.on(Events.ITERATION_STARTED)
    def _draw(engine):
        noise = random.random() + float(np.random.rand())  # noqa: NPY002 - as third-party transforms do
        with torch.no_grad():
            net[0].weight += 1e-3 * noise
        if engine.state.iteration == ask_at:
            progress.asked = KeyboardInterrupt()

    objects = {"model": net, "optimizer": trainer.optimizer, "trainer": trainer}
    ResumableCheckpoint(folder / "last_checkpoint.pt", objects, resume).attach(trainer)
    return trainer, net


def curve(folder):
    return [{**row, "seconds": ""} for row in read_curve(folder / "curve.csv")]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("ask_at", "saved"), [(1, 1), (6, 6), (7, 7), (8, 8)])
def test_a_stopped_and_resumed_training_equals_a_straight_one(tmp_path, progress, ask_at, saved, num_workers):
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    trainer, net = training(straight, progress, num_workers=num_workers)
    trainer.run()
    trainer, _ = training(parts, progress, ask_at=ask_at, num_workers=num_workers)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    last = parts / "last_checkpoint.pt"
    assert torch.load(last, weights_only=True)["trainer"]["iteration"] == saved
    epoch, step = divmod(saved, STEPS)
    where = f"step {step} of {STEPS} of epoch {epoch + 1}" if step else f"epoch {epoch}"
    assert say_interrupted().startswith(f"interrupted, {last} holds the training up to {where}; resume: ")
    progress.asked = None
    torch.rand(7)  # the state of the generators must not matter
    trainer, other = training(parts, progress, resume=last, num_workers=num_workers)
    trainer.run()
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert curve(straight) == curve(parts)
    assert len(curve(parts)) == 3
    assert module.MIDDLE not in torch.load(last, weights_only=True)


def test_accumulated_gradients_are_not_lost(tmp_path, progress):
    trainer, _ = training(tmp_path, progress, ask_at=5, accumulate=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert torch.load(tmp_path / "last_checkpoint.pt", weights_only=True)["trainer"]["iteration"] == 6


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_the_first_signal_asks_and_the_second_ends(progress, number, kind, capfd):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with asked_to_stop():
        with pytest.raises(kind):  # no step runs
            os.kill(os.getpid(), number)
        progress.step = "step 1 of 2 of epoch 1"
        os.kill(os.getpid(), number)
        assert type(progress.asked) is kind
        with pytest.raises(kind):
            os.kill(os.getpid(), number)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    assert capfd.readouterr().err.startswith("stopping after this step")


def test_a_process_that_loads_data_goes_on_until_it_is_ended(progress):
    progress.step = "step 1 of 2 of epoch 1"
    with asked_to_stop():
        for number, code in ((signal.SIGINT, 7), (signal.SIGTERM, 143)):
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), number)
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert progress.asked is None


def test_other_threads_leave_signals_alone(progress):
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run():
        with asked_to_stop():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
