"""What one process of several decides for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def in_first(decide: Callable[[], T]) -> T:
    """Return in every process of a run what a function returns in the first, which alone calls it.

    Where it raises an error, all end: the first with the error, the others without a word. Nobody waits for a process
    that has gone.

    Args:
        decide: takes no argument and returns what can be pickled.
    """
    if not dist.is_initialized():
        return decide()
    verdict: list[Any] = [False, None]
    if dist.get_rank() > 0:
        dist.broadcast_object_list(verdict)
        if not verdict[0]:
            raise SystemExit(1)
        return verdict[1]
    try:
        verdict = [True, decide()]
    finally:
        dist.broadcast_object_list(verdict)
    return verdict[1]
