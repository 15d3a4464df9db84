"""Accumulated, clipped and skipped gradients."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import nn

from custom_networks.nets import AttentionUnet
from custom_networks.workflow import ClipGradients, DecayHandler, OptimizerSteps

SAMPLES = 8


def train(*, batch_size, accumulate=1, clip=None, epochs=2, network=None, samples=SAMPLES, spy=None, handlers=()):
    """Train in float64 with a loss whose mean over the batch is that of its samples; return the network."""
    torch.manual_seed(0)
    net = network or AttentionUnet(3, 1, 2, features=(4, 8), norm=("instance", {"affine": True}))
    net = net.double()
    generator = torch.Generator().manual_seed(1)
    data = [
        {
            "image": torch.rand(1, 8, 8, 8, generator=generator, dtype=torch.float64),
            "label": torch.rand(2, 8, 8, 8, generator=generator, dtype=torch.float64),
        }
        for _ in range(samples)
    ]
    loader = DataLoader(data, batch_size=batch_size)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=epochs * len(loader), power=0.0)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=loader,
        network=net,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[DecayHandler(schedule), ClipGradients(net, clip), OptimizerSteps(), *handlers],
        accumulation_steps=accumulate,
    )
    if spy:
        trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, spy)
    trainer.run()
    return net


def weights(net):
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach()


@pytest.mark.parametrize("clip", [None, 0.05])
def test_accumulated_batches_equal_one_large_batch(clip):
    large = weights(train(batch_size=4, clip=clip))
    small = weights(train(batch_size=1, accumulate=4, clip=clip))
    torch.testing.assert_close(small, large, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(weights(train(batch_size=1, clip=clip)), large, atol=1e-4)


def test_gradients_are_clipped_as_one_vector():
    def norms(clip):
        found = []

        def spy(engine):
            grads = [p.grad for p in engine.network.parameters()]
            found.append(float(torch.cat([grad.flatten() for grad in grads]).norm()))

        train(batch_size=4, clip=clip, spy=spy)
        return found

    free = norms(None)
    bound = sorted(free)[1] * 0.9
    clipped = norms(bound)
    assert free[0] > bound
    assert clipped[0] == pytest.approx(bound, rel=1e-4)
    assert max(clipped) <= bound * (1 + 1e-6)
    assert norms(1e6) == free


def test_an_epoch_without_a_step_is_an_error():
    class Skipping(OptimizerSteps):
        """What GradScaler does to the second epoch."""

        def __call__(self, engine):
            if engine.state.epoch == 2:
                self.steps = 0
            super().__call__(engine)

    with pytest.raises(ValueError, match="the optimiser took no step in epoch 2, since no gradients of it were finite"):
        train(batch_size=4, handlers=[Skipping()], epochs=3)
    train(batch_size=4, epochs=3)


def test_steps_that_the_optimiser_does_not_take_are_not_counted():
    class NeverStep(torch.optim.SGD):
        """An optimiser whose step nobody calls, as GradScaler leaves it out."""

    net = nn.Conv3d(1, 2, 1)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.rand(1, 1, 4, 4, 4), "label": torch.rand(1, 2, 4, 4, 4)}],
        network=net,
        optimizer=NeverStep(net.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        iteration_update=lambda engine, batch: {"loss": math.nan},
        train_handlers=[OptimizerSteps()],
    )
    with pytest.raises(ValueError, match="took no step in epoch 1"):
        trainer.run()


def test_the_last_batches_of_an_epoch_take_a_step_of_their_own():
    count = []
    train(batch_size=1, accumulate=4, samples=6, epochs=1, spy=lambda engine: count.append(engine.state.iteration))
    steps = []

    class Count(OptimizerSteps):
        def __call__(self, engine):
            steps.append(self.steps)

    train(batch_size=1, accumulate=4, samples=6, epochs=1, handlers=[Count()])
    assert len(count) == 6
    assert steps == [2]
