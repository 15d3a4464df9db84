"""Joining and leaving the processes that torchrun starts."""

from __future__ import annotations

import gc

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def start_processes(device: torch.device) -> None:
    """Join the other processes of this run: over NCCL on GPUs, over gloo on CPUs.

    Args:
        device: the device of this process.
    """
    # Functions of this module have the default group as a default argument. Imported after the group has started, as
    # DistributedDataParallel does, it would keep the group and its threads alive until the interpreter ends.
    import torch.distributed.nn

    if not dist.is_initialized():
        dist.init_process_group(backend="nccl" if device.type == "cuda" else "gloo")
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
