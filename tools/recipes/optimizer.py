"""The optimiser of a training and the schedule of its learning rate."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.shared import ours


def plan_optimizer(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return the optimiser of a training and the schedule of its learning rate.

    Args:
        bundle: the specification.
    """
    schedule = {
        "optimizer": "@optimizer",
        "total_iters": "$max(@epochs, @train#trainer#max_epochs) * len(@train#dataloader)",
        "power": 0.9,
    }
    return {
        "optimizer": {
            "_target_": "torch.optim.AdamW",
            "params": "$@network.parameters()",
            "lr": "@learning_rate",
            **bundle.optimizer,
        },
        "lr_scheduler": (
            ours("WarmUpPolynomialLR", **schedule, warm_up=bundle.warm_up)
            if bundle.warm_up
            else {"_target_": "torch.optim.lr_scheduler.PolynomialLR", **schedule}
        ),
    }


def describe_optimizer(bundle: Bundle) -> str:
    """Return optimiser and schedule in words, for a README.

    Args:
        bundle: the specification.
    """
    name, knobs = "AdamW", bundle.knobs
    if bundle.optimizer:
        name += f" ({', '.join(f'{key} {value}' for key, value in bundle.optimizer.items())})"
    rise = f" after a linear rise over {bundle.warm_up:.0%} of the steps" if bundle.warm_up else ""
    clip = knobs.get("clip_gradients")
    norm = "" if clip is None else f", gradients clipped to a norm of {clip:g}"
    return (
        f"{name}, learning rate {knobs['learning_rate']}, polynomial decay (power 0.9) per iteration{rise}{norm}, "
        f"{knobs['epochs']} epochs"
    )
