"""The application that uvicorn serves: MONAI Label's, behind the front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from monailabel.app import app as bare
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance

from label_server.front.images import one_line
from label_server.front.middleware import Front
from label_server.front.settings import Settings
from label_server.sent_weights import serve_sent_weights


class Knowledge:
    """What the app has."""

    def names(self, task: str) -> Sequence[str]:
        """Return what a task may run.

        Args:
            task: ``train``, ``batch``, ``scoring`` or ``activelearning``.
        """
        app: MONAILabelApp = app_instance()
        attributes = {
            "train": "_trainers",
            "batch": "_infers",
            "scoring": "_scoring_methods",
            "activelearning": "_strategies",
        }
        return list(getattr(app, attributes[task]))

    def image(self, name: str) -> str:
        """Return the file of an image, or nothing.

        Args:
            name: its id.
        """
        return str(app_instance().datastore().get_image_uri(name))

    def weights_problem(self, model: str, file: Path) -> str:
        """Return what keeps a file from being the weights of a model, or nothing.

        Args:
            model: name of the model.
            file: the weights.
        """
        own = app_instance().model_file(model)
        if not own:
            return f"there is no model {model} with weights; use one of {', '.join(self.names('batch'))}"
        try:
            new = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a broken file leads to any
            return f"the file holds no weights ({one_line(error)}); send a state dict saved by torch.save"
        old = torch.load(own, map_location="cpu", weights_only=True)
        if not isinstance(new, dict) or _shapes(new) != _shapes(old):
            return f"the weights are of another network than {model}; send a state dict with its names and shapes"
        return ""


def _shapes(state: dict[str, object]) -> dict[str, object]:
    return {name: value.shape if isinstance(value, torch.Tensor) else None for name, value in state.items()}


serve_sent_weights(bare)
app = Front(bare, Settings.from_environment(), Knowledge())
