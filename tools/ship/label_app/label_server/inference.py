"""Inference of bundles, as it runs in the process of one bundle."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monai.transforms import Activationsd
from monailabel.tasks.infer.bundle import BundleInferTask

from label_server.bundles import HeadConstants, classes_of_head
from label_server.images import check_memory, watched
from label_server.models import without_state
from label_server.own_code import PACKAGE, OwnCode, code_digest
from label_server.sentences import sentence

logger = logging.getLogger(__name__)
WARNINGS = "warnings"


class Segmentation(BundleInferTask):
    """Inference of a segmentation bundle."""

    def __init__(self, path: str, conf: Mapping[str, str], **options: Any) -> None:
        super().__init__(path, conf, **options)
        without_state(self._config)

    def run_pre_transforms(self, data: dict[str, Any], transforms: Any) -> Any:
        """Load and prepare the image, and note what is odd about it.

        Args:
            data: the request.
            transforms: the bundle's preprocessing.

        Raises:
            HTTPException: 413 if the memory does not hold what the image takes, 422 if the image cannot be read or does
                not fit.
        """
        image = data.get("image")
        try:
            check_memory(self, data)
            with watched(self, data) as warnings:
                prepared = super().run_pre_transforms(data, transforms)
        except HTTPException:
            raise
        except Exception as error:
            logger.exception("preprocessing")
            raise HTTPException(422, f"{image} cannot be used: {sentence(error)}") from error
        prepared[WARNINGS] = warnings
        return prepared

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[Any, dict[str, Any]]:
        """Write the mask, and answer with what is odd about the image.

        Args:
            data: the result.
            extension: see MONAI Label.
            dtype: see MONAI Label.
        """
        file, answer = super().writer(data, extension, dtype)
        return file, {**answer, WARNINGS: data[WARNINGS]}


class Uncertainty(Segmentation):
    """Class probabilities on the network's grid with dropout on, of which the score is computed.

    It runs in the process that scores, which knows the code of other bundles, too.
    """

    def __init__(self, path: str, conf: Mapping[str, str], **options: Any) -> None:
        with OwnCode.of(path):
            super().__init__(path, conf, **options)
            module = sys.modules[type(self.network).__module__.split(".")[0]]
        folder = Path(str(module.__file__)).parent
        if folder.name == PACKAGE and code_digest(folder) != code_digest(Path(path) / PACKAGE):
            raise RuntimeError(f"{Path(path).name} would run the code of {folder}; start the server anew")

    def __call__(self, request: Any, callbacks: Any = None) -> tuple[str | None, dict[str, Any]]:
        """Run the bundle with its own code.

        Args:
            request: the request.
            callbacks: see MONAI Label.
        """
        with OwnCode.of(self.bundle_path):
            result: tuple[str | None, dict[str, Any]] = super().__call__(request, callbacks)
        return result

    def post_transforms(self, data: Any = None) -> list[Callable]:
        """Return the transform that makes probabilities of logits, and nothing after it.

        Args:
            data: the request.
        """
        return [transform for transform in super().post_transforms(data) if isinstance(transform, Activationsd)]


class Head(Segmentation):
    """Inference of a segmentation bundle on a whole head, by its ``inference_head.json``."""

    def __init__(self, path: str, conf: Mapping[str, str]) -> None:
        super().__init__(path, conf, const=HeadConstants())
        self.labels = classes_of_head(self.bundle_config)

    def inferer(self, data: Any = None) -> Any:
        """Return what locates and segments, and keep it for what it has to say.

        Args:
            data: the request.
        """
        self.regions = super().inferer(data)
        return self.regions

    def run_inferer(self, data: dict[str, Any], convert_to_batch: bool = True, device: str = "cuda") -> dict[str, Any]:
        """Locate and segment, and note what is odd about it.

        Args:
            data: the request, with its image.
            convert_to_batch: see MONAI Label.
            device: see MONAI Label.

        Raises:
            HTTPException: 422 if the structures cannot be located.
        """
        try:
            result: dict[str, Any] = super().run_inferer(data, convert_to_batch, device)
        except ValueError as error:
            raise HTTPException(422, f"{data.get('image_path')} cannot be used: {sentence(error)}") from error
        result[WARNINGS] = [{"kind": "head", "structure": None, "text": text} for text in self.regions.found.problems]
        return result


class Classification(Segmentation):
    """Inference of a classification bundle; the answer is JSON."""

    def post_transforms(self, data: Any = None) -> list[Callable]:
        """Return the bundle's postprocessing; there is no grid to restore.

        Args:
            data: the request.
        """
        self.add_post_restore = False
        return list(super().post_transforms(data))

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[str, dict[str, Any]]:
        """Write the probabilities, also into a file for clients that ask for one.

        Args:
            data: the result.
            extension: unused.
            dtype: unused.
        """
        probabilities = {
            name: float(data[self.output_label_key].flatten()[number]) for name, number in sorted(self.labels.items())
        }
        answer = {"probabilities": probabilities, WARNINGS: data[WARNINGS]}
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump(answer, file)
        return file.name, answer
