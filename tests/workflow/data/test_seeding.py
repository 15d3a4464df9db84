"""A sample depends on its seed alone, and no two of its transforms draw the same random numbers."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import Compose, RandAffined, RandGaussianNoised, Randomizable, ScaleIntensityd
from torch.utils.data import DistributedSampler, RandomSampler, SequentialSampler

from custom_networks.workflow import RandPatchd
from custom_networks.workflow.data.seeding import SeededSampler, random_parts, seed_sample


def drawn(sampler, seed):
    torch.manual_seed(seed)
    return list(sampler)


def test_the_state_of_the_generator_decides_order_and_seeds():
    sampler = SeededSampler(RandomSampler(range(20)))
    first, other, again = (drawn(sampler, seed) for seed in (1, 2, 1))
    assert first == again != other
    assert sorted(index for index, _ in first) == list(range(20)) != [index for index, _ in first]
    assert len({seed for _, seed in first}) == 20 == len(sampler)


def test_seeds_do_not_depend_on_what_is_drawn_in_between():
    """As the dropout of the steps between two samples, which workers have drawn at another time."""
    sampler = SeededSampler(SequentialSampler(range(5)))
    without = drawn(sampler, 0)
    torch.manual_seed(0)
    between = []
    for entry in sampler:
        between.append(entry)
        torch.rand(3)
    assert between == without


def test_a_case_that_comes_twice_gets_two_seeds():
    seeds = [seed for _, seed in drawn(SeededSampler(RandomSampler(range(2), replacement=True, num_samples=30)), 0)]
    assert len(set(seeds)) == 30


def test_the_order_of_a_distributed_training_depends_on_the_epoch():
    parts = [SeededSampler(DistributedSampler(range(8), num_replicas=2, rank=rank)) for rank in (0, 1)]
    orders = []
    for epoch in (0, 1):
        for part in parts:
            part.set_epoch(epoch)
        orders.append([[index for index, _ in part] for part in parts])
        assert sorted(orders[-1][0] + orders[-1][1]) == list(range(8))
    assert orders[0] != orders[1]


def test_everything_random_is_found_and_no_two_parts_draw_alike():
    class Holder:
        def __init__(self):
            self.by_name = {"a": [RandGaussianNoised("image")]}

    patch = RandPatchd(["image"], "image", (4, 4, 4))
    transform = Compose([ScaleIntensityd("image"), RandAffined("image"), Holder(), patch])
    parts = random_parts(transform)
    assert [type(part).__name__ for part in parts] == [
        *("Compose", "RandAffined", "RandAffine", "RandAffineGrid"),
        *("RandGaussianNoised", "RandGaussianNoise", "RandPatchd", "RandAffineGrid"),
    ]
    seed_sample(parts, 3)
    first = [part.R.rand() for part in parts]
    assert len(set(first)) == len(parts)
    seed_sample(parts, 3)
    assert [part.R.rand() for part in parts] == first
    seed_sample(parts, 4)
    assert not set(first) & {part.R.rand() for part in parts}


def test_a_turn_does_not_depend_on_the_decision_to_turn():
    """With MONAI's own seeding every first angle would be below zero where the chance to turn is one half."""
    turn = RandAffined("image", prob=0.5, rotate_range=[1.0, 1.0, 1.0])
    angles, parts = [], random_parts(turn)
    for seed in range(300):
        seed_sample(parts, seed)
        turn.randomize(None)
        if turn._do_transform:
            turn.rand_affine.rand_affine_grid.randomize()
            angles.append(turn.rand_affine.rand_affine_grid.rotate_params[0])
    assert 110 < len(angles) < 190
    assert 0.35 < np.mean(np.array(angles) > 0) < 0.65


def test_the_main_process_keeps_its_own_randomness():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    want = torch.rand(()).item(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    seed_sample([Randomizable()], 5)
    assert (torch.rand(()).item(), np.random.rand()) == want  # noqa: NPY002
