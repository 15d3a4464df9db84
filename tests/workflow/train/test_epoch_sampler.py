"""The cases of an epoch in a distributed training: shared out, none again before all the others, by seed and epoch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils.data import DistributedSampler

from custom_networks.workflow import EpochSampler

CASES, PROCESSES = 10, 2


def epoch(number=0, seed=0, **kwargs):
    """Return what each process draws."""
    drawn = []
    for rank in range(PROCESSES):
        sampler = EpochSampler(range(CASES), num_replicas=PROCESSES, rank=rank, seed=seed, **kwargs)
        sampler.set_epoch(number)
        drawn.append(list(sampler))
        assert len(sampler) == len(drawn[-1])
    return drawn


@pytest.mark.parametrize("num_samples", [3, 5, 12])
def test_no_case_comes_again_before_all_the_others(num_samples):
    first, second = epoch(num_samples=num_samples)
    assert len(first) == len(second) == num_samples
    drawn = [case for pair in zip(first, second, strict=True) for case in pair]
    for start in range(0, len(drawn), CASES):
        assert max(Counter(drawn[start : start + CASES]).values()) == 1


def test_order_depends_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    orders = [epoch(number, seed, num_samples=5) for number, seed in ((0, 0), (0, 0), (1, 0), (0, 2))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]


def test_without_a_number_it_is_that_of_torch():
    want = [DistributedSampler(range(CASES), num_replicas=PROCESSES, rank=rank, seed=4) for rank in range(PROCESSES)]
    assert epoch(seed=4) == [list(sampler) for sampler in want]
