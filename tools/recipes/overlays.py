"""The files that are laid over train.json: evaluation and several processes."""

from __future__ import annotations

from typing import Any

from tools.recipes.shared import first_of_all, ours

DISTRIBUTED: dict[str, Any] = {
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
    "initialize": [
        *first_of_all(),
        ours("start_processes", device="@device"),
        "$monai.utils.set_determinism(seed=@seed)",
    ],
}
FINALIZE = [ours("end_processes", network="@network")]


def evaluate(report: dict[str, Any], check: dict[str, Any], *bill: dict[str, Any], **overrides: Any) -> dict[str, Any]:
    """Return evaluate.json, laid over train.json.

    Args:
        report: the handler that writes the metrics.
        check: the component that looks at the data before anything starts.
        *bill: the component that then says how much memory is needed, if any.
        **overrides: what else evaluation changes, by config path.
    """
    return {
        "ckpt_path": "$@ckpt_dir + '/model.pt'",
        **overrides,
        "validate#handlers": [report],
        "run": [
            ours("load_weights", network="@network", path="@ckpt_path"),
            check,
            *bill,
            "$@validate#evaluator.run()",
        ],
    }


def multi_gpu_train() -> dict[str, Any]:
    """Return multi_gpu_train.json, laid over train.json."""
    return {
        **DISTRIBUTED,
        "train#sampler": {
            "_target_": "DistributedSampler",
            "dataset": "@train#dataset",
            "even_divisible": True,
            "shuffle": True,
            "seed": "@seed",
        },
        "train#dataloader#sampler": "@train#sampler",
        "train#dataloader#shuffle": False,
        "finalize": FINALIZE,
    }


def multi_gpu_evaluate() -> dict[str, Any]:
    """Return multi_gpu_evaluate.json, laid over train.json and evaluate.json."""
    return {**DISTRIBUTED, "finalize": FINALIZE}
