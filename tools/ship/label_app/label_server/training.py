"""Training of bundles on what was labelled in the viewer."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from monailabel.tasks.train.bundle import BundleTrainTask

from label_server.models import without_state
from label_server.own_code import OwnCode


class Training(BundleTrainTask):
    """Training of a segmentation bundle."""

    def __call__(self, request: Any, datastore: Any) -> Any:
        """Train the bundle with its own code.

        Args:
            request: the request.
            datastore: where the labelled images are.
        """
        with OwnCode.of(self.bundle_path):
            return super().__call__(request, datastore)

    def config(self) -> dict[str, Any]:
        """Return the options that viewers show."""
        return without_state(super().config())

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[dict[str, Any]]) -> None:
        # The handlers belong to the config that the server keeps: one training must not leave its loader to the next.
        train_handlers[:] = [handler for handler in train_handlers if handler.get("_target_") != "CheckpointLoader"]
        if pretrained:
            super()._load_checkpoint(model_pytorch, pretrained, train_handlers)

    def _run_command(self, cmd: Sequence[str], env: Mapping[str, str]) -> None:
        subprocess.run(cmd, env=env, check=True)
