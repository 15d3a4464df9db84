"""Which of the images are for this process: of a job array, of torchrun, or all."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

SHARD = re.compile(r"(\d+)/(\d+)")
RANK, PROCESSES = "RANK", "WORLD_SIZE"
"""The variables that torchrun sets for each of its processes."""
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """The share of one of several processes.

    Args:
        number: which one, from 1.
        of: how many there are.
        launched: whether torchrun has started them.
    """

    number: int = 1
    of: int = 1
    launched: bool = False

    def share(self, items: Sequence[T]) -> list[T]:
        """Return every ``of``-th item, so that each is in one share and shares are of equal size up to one.

        Args:
            items: in an order that is the same in all processes.

        Example:
            >>> [Shard(number, 3).share("abcde") for number in (1, 2, 3)]
            [['a', 'd'], ['b', 'e'], ['c']]
        """
        return list(items[self.number - 1 :: self.of])


def find_shard(shard: str | None) -> Shard:
    """Return the share that was asked for, else that of a process which torchrun has started, else all.

    Args:
        shard: ``i/n``, the i-th of n, from 1.

    Raises:
        ValueError: if it is none, or torchrun shares the images out already.

    Example:
        >>> find_shard("2/3")
        Shard(number=2, of=3, launched=False)
    """
    launched = int(os.environ.get(PROCESSES, "1")) > 1 and RANK in os.environ
    if shard is None:
        if launched:
            return Shard(int(os.environ[RANK]) + 1, int(os.environ[PROCESSES]), launched=True)
        return Shard()
    match = SHARD.fullmatch(shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard must be i/n, the i-th of n from 1, got {shard}; write for example 2/4")
    if launched:
        raise ValueError(f"--shard {shard} and torchrun both share the images out; leave one of them out")
    return Shard(int(match[1]), int(match[2]))


def wait_for_others() -> None:
    """Wait until all processes of torchrun have done their share: it ends all as soon as one ends with an error."""
    from datetime import timedelta

    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(days=7))
    dist.barrier()
    dist.destroy_process_group()
