"""Which trainings the torchrun of this process has begun, for the processes that it starts anew."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist

_STORES: list[dist.Store] = []


def share_store(store: dist.Store) -> None:
    """Keep the store of torchrun, which outlives its processes.

    Args:
        store: the store, or one that puts something before its keys, such as the number of the start.
    """
    while isinstance(store, dist.PrefixStore):
        store = store.underlying_store
    _STORES[:] = [store]


def note_begun(folder: Path) -> None:
    """Remember that this run trains in a folder, as long as its torchrun lives; nothing without one.

    Args:
        folder: the folder of the weights.
    """
    for store in _STORES:
        store.set(_key(folder), "begun")


def has_begun(folder: Path) -> bool:
    """Return whether a process that the same torchrun started before has trained in a folder.

    Args:
        folder: the folder of the weights.
    """
    return any(store.check([_key(folder)]) for store in _STORES)


def _key(folder: Path) -> str:
    return f"training in {folder.resolve()}"
