"""The weights of a bundle that viewers may choose from."""

from __future__ import annotations

from typing import Any

TRAINING_STATE = "last_checkpoint.pt"


def without_state(config: dict[str, Any]) -> dict[str, Any]:
    """Leave the state of a training out of the models that viewers offer.

    Args:
        config: options of a task, changed in place.
    """
    config["model_filename"] = [name for name in config.get("model_filename", []) if name != TRAINING_STATE]
    return config
