"""The cases of an epoch of a distributed training, as many as asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import islice

import torch
from torch.utils.data import DistributedSampler, RandomSampler


class EpochSampler(DistributedSampler):
    """Draw the cases of an epoch and share them among the processes, each its own.

    The cases come in random order, each again only after all the others, so that any number of them can be asked for.
    The order depends on the seed and the epoch alone, which MONAI's trainer tells.

    Args:
        dataset: the cases.
        num_samples: cases of an epoch in each process, or ``None`` for all cases once, and some twice where they do not
            divide.
        num_replicas: processes, by default those of the training.
        rank: the process's own number among them.
        seed: together with the epoch, the seed of the order.

    Example:
        >>> sampler = EpochSampler(range(3), num_samples=5, num_replicas=2, rank=0)
        >>> len(sampler), set(sampler)
        (5, {0, 1, 2})
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, seed=seed)  # type: ignore[arg-type]
        if num_samples is not None:
            self.num_samples, self.total_size = num_samples, num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        """Draw an epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = RandomSampler(self.dataset, num_samples=self.total_size, generator=generator)  # type: ignore[arg-type]
        return islice(iter(drawn), self.rank, None, self.num_replicas)
