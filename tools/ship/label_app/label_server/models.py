"""The weights of a bundle that viewers may choose from."""

from __future__ import annotations

import re
from typing import Any

SERVED = "model.pt"
TRAINING_STATE = "last_checkpoint.pt"
KEPT = re.compile(r"model_\d{8}T\d{6}Z\.pt")
"""Weights that a training has replaced: they come back by the option ``restore`` of a training, not as a model."""


def without_state(config: dict[str, Any]) -> dict[str, Any]:
    """Leave the state of a training, and the weights that one has replaced, out of the models that viewers offer.

    Args:
        config: options of a task, changed in place.
    """
    config["model_filename"] = [
        name for name in config.get("model_filename", []) if name != TRAINING_STATE and not KEPT.fullmatch(name)
    ]
    return config
