"""Inference of many images."""

from __future__ import annotations

from typing import Any

import torch
from monailabel.interfaces.tasks.batch_infer import BatchInferTask


class Batch(BatchInferTask):
    """Inference of many images, also without a GPU: MONAI Label's default is to share them among no GPUs."""

    def __call__(self, request: Any, datastore: Any, infer: Any) -> dict[str, Any]:
        """Run a model on images.

        Args:
            request: the request.
            datastore: where the images are.
            infer: what runs the model.
        """
        request = {**request, "multi_gpu": request.get("multi_gpu", True) and torch.cuda.is_available()}
        result: dict[str, Any] = super().__call__(request, datastore, infer)
        return result
