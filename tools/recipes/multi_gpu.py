"""multi_gpu_train.json and multi_gpu_evaluate.json, which are laid over the files of one process."""

from __future__ import annotations

from typing import Any

from tools.recipes.shared import GUARDS, SEED_TRAINING, ours

PROCESSES: dict[str, Any] = {
    "rank": "$int(os.environ['RANK'])",
    "device": "$torch.device(f\"cuda:{os.environ['LOCAL_RANK']}\" if torch.cuda.is_available() else 'cpu')",
    "network": {
        "_target_": "torch.nn.parallel.DistributedDataParallel",
        "module": "$@network_def.to(@device)",
        "device_ids": "$[@device] if torch.cuda.is_available() else None",
    },
    "validate#sampler": {
        "_target_": "DistributedSampler",
        "dataset": "@validate#dataset",
        "even_divisible": False,
        "shuffle": False,
    },
    "validate#dataloader#sampler": "@validate#sampler",
    "initialize": [*GUARDS, ours("start_processes", device="@device"), SEED_TRAINING],
}

MULTI_GPU_TRAIN: dict[str, Any] = {
    **PROCESSES,
    "train#sampler": ours(
        "EpochSampler",
        dataset="@train#dataset",
        num_samples="$@steps_per_epoch and @steps_per_epoch * @batch_size",
        seed="@seed",
    ),
    "finalize": [ours("end_processes", network="@network")],
}
"""Laid over train.json."""

MULTI_GPU_EVALUATE: dict[str, Any] = {**PROCESSES, "finalize": [ours("end_processes", network="@network")]}
"""Laid over train.json and evaluate.json."""
