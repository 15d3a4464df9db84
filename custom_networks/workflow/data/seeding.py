"""Randomness of a training's samples that depends on the seed of each sample alone."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import Sampler, get_worker_info

SEEDS = 2**32
Seeded = tuple[int, int]
"""The number of a case and the seed of the sample that is made of it."""


class SeededSampler(Sampler[Seeded]):
    """Give every case that another sampler names a seed of its own.

    The seeds follow from the state of torch's generator when an epoch starts and from nothing else: neither from the
    number of processes that load data, nor from how long these have lived.

    Args:
        sampler: the order of the cases.

    Example:
        >>> from torch.utils.data import SequentialSampler
        >>> [index for index, seed in SeededSampler(SequentialSampler("abc"))]
        [0, 1, 2]
    """

    def __init__(self, sampler: Sampler[int]) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Seeded]:
        # a generator of its own, since workers have the seeds drawn at other times than the main process
        generator = torch.Generator().manual_seed(int(torch.randint(SEEDS, ())))
        for index in self.sampler:
            yield index, int(torch.randint(SEEDS, (), generator=generator))

    def set_epoch(self, epoch: int) -> None:
        """Tell a sampler of a distributed training, whose order depends on it, the epoch.

        Args:
            epoch: its number.
        """
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


def random_parts(component: Any) -> list[Randomizable]:
    """Return everything in a transform that draws random numbers, however deep it lies.

    Args:
        component: a transform.

    Example:
        >>> from monai.transforms import Compose, RandAffined
        >>> [type(part).__name__ for part in random_parts(Compose([RandAffined("image")]))]
        ['Compose', 'RandAffined', 'RandAffine', 'RandAffineGrid']
    """
    found = [component] if isinstance(component, Randomizable) else []
    inner: Iterable[Any] = ()
    if isinstance(component, Mapping):
        inner = component.values()
    elif isinstance(component, list | tuple):
        inner = component
    elif hasattr(component, "__dict__") and not isinstance(component, type | torch.Tensor):
        inner = vars(component).values()
    return found + [part for entry in inner for part in random_parts(entry)]


def seed_sample(parts: Iterable[Randomizable], seed: int) -> None:
    """Seed the transforms that make one sample and, in a process that loads data, everything else random.

    All draw from one stream. MONAI's ``set_random_state`` gives a transform and those inside it streams that begin
    alike: in the first sample after it ``RandAffined`` turns only by angles that its decision to turn leaves over, and
    with a seed for each sample every sample would be the first.

    Args:
        parts: what :func:`random_parts` returns.
        seed: that of the sample.
    """
    own, *others = (int(state) for state in np.random.SeedSequence(seed).generate_state(4))
    if get_worker_info() is not None:
        # in the main process these belong to the training, which seeds them when an epoch starts
        random.seed(others[0])
        np.random.seed(others[1])  # noqa: NPY002 - third-party transforms draw from the legacy generator
        torch.manual_seed(others[2])
    stream = np.random.RandomState(own)
    for part in parts:
        part.R = stream
