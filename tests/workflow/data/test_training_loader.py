"""Samples are the same whatever the number of processes that load them and however long these live."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.transforms import Compose, Lambdad, RandAffined, RandGaussianNoised, RandLambdad
from torch.utils.data import DistributedSampler, RandomSampler, SequentialSampler

from custom_networks.workflow import CachedCases, ReseedHandler, TrainingLoader, choose_workers
from custom_networks.workflow.data import training_loader


def add_global_noise(volume):
    """What a transform of somebody else may do."""
    return volume + random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002


def loader(num_workers, transforms=(), cases=7, **options):
    data = [{"image": torch.full((1, 6, 6, 6), float(number))} for number in range(cases)]
    transform = Compose(
        [
            Lambdad("image", torch.clone),
            RandAffined("image", prob=0.6, rotate_range=[0.3] * 3),
            RandGaussianNoised("image", prob=0.7),
            *transforms,
        ]
    )
    dataset = CachedCases(data, transform)
    options = {"sampler": RandomSampler(dataset), **options}
    return TrainingLoader(dataset, batch_size=2, num_workers=num_workers, **options)


def epochs(of, numbers, between=lambda: None):
    """Return the images of epochs as the trainer runs them."""
    engine, seen = Engine(lambda *_: None), []
    engine.data_loader = of
    for epoch in numbers:
        engine.state.epoch = epoch
        ReseedHandler(0)(engine)
        images = []
        for batch in of:
            images.append(torch.as_tensor(batch["image"]).clone())
            between()
        seen.append(torch.cat(images))
    return seen


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_make_no_difference(num_workers):
    want = epochs(loader(0), [1, 2, 3], between=lambda: torch.rand(3))
    got = epochs(loader(num_workers), [1, 2, 3], between=lambda: torch.rand(3))
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
    assert not torch.equal(want[0], want[1])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_later_epoch_needs_no_earlier_one(num_workers):
    """With processes that live on, too, and with transforms that draw from the generators of everybody."""
    theirs = [RandLambdad("image", add_global_noise)]
    straight = epochs(loader(num_workers, theirs), [1, 2, 3])
    (resumed,) = epochs(loader(num_workers, theirs), [3])
    assert torch.equal(straight[2], resumed)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_main_process_draws_the_same_afterwards(num_workers):
    """Dropout is drawn from the generator from which loaders draw when their processes start."""
    drawn = []
    for numbers in ([1, 2], [2]):
        epochs(loader(num_workers), numbers)
        drawn.append(torch.rand(()).item())
    assert drawn[0] == drawn[1]


def test_processes_stay_between_epochs():
    fed = loader(2)
    kept = [set(), set()]
    for epoch in (0, 1):
        for _ in fed:
            kept[epoch] |= {worker.pid for worker in fed._iterator._workers}
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2


def test_the_sampler_is_followed():
    numbers = [int(image.median().round()) for image in epochs(loader(0, sampler=SequentialSampler(range(7))), [1])[0]]
    assert numbers == list(range(7))
    half = DistributedSampler(range(7), num_replicas=2, rank=1, shuffle=False)
    numbers = [int(image.median().round()) for image in epochs(loader(0, sampler=half), [1])[0]]
    assert numbers == [1, 3, 5, 0]


@pytest.mark.parametrize(
    ("num_workers", "device", "cores", "processes", "want"),
    [
        (3, "cpu", 2, 1, 3),
        (0, "cuda", 16, 1, 0),
        ("auto", "cpu", 64, 1, 0),
        ("auto", "cuda:0", 16, 1, 8),
        ("auto", "cuda", 6, 1, 5),
        ("auto", "cuda", 8, 2, 3),
        ("auto", "cuda", 1, 1, 1),
        ("auto", "cuda", 2, 4, 1),
    ],
)
def test_the_number_of_processes(monkeypatch, num_workers, device, cores, processes, want):
    monkeypatch.setattr(training_loader.os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert choose_workers(num_workers, device) == want
