"""Joining and leaving the processes that torchrun starts."""

from __future__ import annotations

import gc
import os

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from custom_networks.workflow.guard.restarts import share_store

STARTS = "TORCHELASTIC_RESTART_COUNT"
"""The variable in which torchrun counts how often it has started its processes anew."""


def start_processes(device: torch.device) -> None:
    """Join the other processes of this run: over NCCL on GPUs, over gloo on CPUs.

    Args:
        device: the device of this process.
    """
    # Functions of this module have the default group as a default argument. Imported after the group has started, as
    # DistributedDataParallel does, it would keep the group and its threads alive until the interpreter ends.
    import torch.distributed.nn

    if not dist.is_initialized():
        # torchrun keeps its store when it starts its processes anew, with the addresses of those that have gone
        store, rank, world_size = next(rendezvous("env://"))
        share_store(store)
        store = dist.PrefixStore(f"start_{os.environ.get(STARTS, '0')}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    if device.type == "cuda":
        torch.cuda.set_device(device)


def end_processes(network: DistributedDataParallel) -> None:
    """Wait for the other processes and leave them, with no thread of theirs left behind.

    A worker thread of gloo that is still letting go of a tensor when the interpreter ends aborts the process, after all
    its work is done. The threads end with the group, and the group with the last reference to it; the network's are
    dropped here, so it can be evaluated afterwards but not trained.

    Args:
        network: the network that was trained or evaluated.
    """
    if not dist.is_initialized():
        return
    dist.barrier()
    dist.destroy_process_group()
    for name in ("logger", "reducer", "process_group"):
        vars(network).pop(name, None)
    gc.collect()
