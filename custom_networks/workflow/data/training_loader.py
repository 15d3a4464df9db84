"""The loader of a training: as many processes as the machine has cores for, which live as long as it does."""

from __future__ import annotations

import os
from typing import Any

import torch
from monai.data import DataLoader, Dataset
from torch.utils.data import Sampler

from custom_networks.workflow.data.seeding import SeededSampler
from custom_networks.workflow.guard.processors import cores

AUTO = "auto"
MOST = 8
"""Processes that feed one GPU: more rarely pay, and each holds batches in the shared memory."""


def choose_workers(num_workers: int | str, device: torch.device | str) -> int:
    """Return the number of processes that load data.

    With ``"auto"`` none on a CPU, whose cores the network needs itself, and else a core each but for one of every
    process of the training, at most eight.

    Args:
        num_workers: their number, or "auto".
        device: where the network runs.

    Example:
        >>> choose_workers(3, "cuda"), choose_workers("auto", "cpu")
        (3, 0)
    """
    if num_workers != AUTO:
        return int(num_workers)
    if torch.device(device).type == "cpu":
        return 0
    return max(1, min(MOST, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


class TrainingLoader(DataLoader):
    """MONAI's ``DataLoader`` whose samples do not depend on the number of its processes, which stay between epochs.

    Args:
        dataset: the cases, which take an index with a seed, as
            :class:`custom_networks.workflow.data.cached_cases.CachedCases` does.
        batch_size: samples of a batch.
        sampler: the order of the cases.
        num_workers: processes that load data; 0 for none beside the main process.
        **options: those of torch's ``DataLoader``.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        sampler: Sampler[int],
        num_workers: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(
            dataset,
            num_workers,
            batch_size=batch_size,
            sampler=SeededSampler(sampler),
            persistent_workers=num_workers > 0,
            # from torch's own one a loader draws when its processes start: in each epoch, or in the first one alone
            generator=torch.Generator(),
            **options,
        )
