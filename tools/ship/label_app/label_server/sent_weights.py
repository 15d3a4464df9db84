"""Weights that are sent to the server, once its front has checked them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, UploadFile
from fastapi.routing import APIRoute
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance

from label_server.served_weights import ServedWeights
from label_server.training_folder import TrainingFolder

logger = logging.getLogger(__name__)


def serve_sent_weights(app: FastAPI) -> None:
    """Put the route that takes weights before that of MONAI Label, which writes over the file that it serves.

    Args:
        app: the application of MONAI Label.
    """
    path = f"{settings.MONAI_LABEL_API_STR}/model/{{model}}"
    app.router.routes.insert(0, APIRoute(path, take_weights, methods=["PUT"], include_in_schema=False))


def take_weights(model: str, file: UploadFile) -> dict[str, Any]:
    """Serve weights that were sent; a reader finds those before or these at any moment, and those before are kept.

    Args:
        model: name of the model.
        file: the weights.

    Raises:
        HTTPException: 422 while the model is trained, which would replace them.
    """
    bundle = str(Path(app_instance().model_file(model)).parents[1])
    training = TrainingFolder(bundle)
    if training.runs():
        raise HTTPException(422, f"{model} is being trained; send the weights when that has ended")
    kept = ServedWeights(bundle).take(file.file)
    training.remove()  # an interrupted one would compare itself with weights that are served no more
    logger.info("weights of %s: sent%s", model, f", those before are kept as {kept}" if kept else "")
    return {**app_instance().model_info(model), "kept_as": kept}
