"""MONAI Label app for these bundles: the stock ``monaibundle`` app, and what it lacks.

Runs inside the MONAI Label server, in an environment where this repository is not installed. Beyond the stock app:

- every bundle runs in a process of its own, with its own ``custom_networks``, so that none waits for another; at most
  ``queue_length`` (8) requests wait for one, and one whose client has left is stopped;
- an image that the memory does not hold is refused before it is read, and what is odd about one is in the answer;
- the strategy "epistemic" offers the image first that the network is least sure of, by the entropy of its class
  probabilities under dropout; the stock score takes class numbers for probabilities, and no strategy uses it;
- classification bundles answer with probabilities;
- a bundle that takes whole heads, too, is a second model, ``<bundle>_head``;
- a request that cannot be met ends in one sentence; what must not reach MONAI Label is refused in front of it;
- batch inference works without a GPU;
- a training with ``pretrained`` false starts, and one whose processes fail is not reported as done;
- the state of a training, ``last_checkpoint.pt``, is not offered as a model.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import monailabel
import requests
from fastapi import HTTPException
from label_server.batch import Batch
from label_server.bundles import CLASSIFICATION, Bundle, tasks_of
from label_server.front.settings import ADDRESS, BEHIND
from label_server.inference import Uncertainty
from label_server.routes import run_beside_the_loop
from label_server.sentences import first_cause, sentence
from label_server.sessions import remove_expired
from label_server.strategies import RandomImage
from label_server.training import Training
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelException
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.utils.others.generic import get_bundle_models

DROPOUT = 0.2
SIMULATIONS = 5
SPARE = 4
"""Threads for each bundle beside those that wait: one computes, the others refuse."""

logger = logging.getLogger(__name__)


class BundlesApp(MONAILabelApp):
    """The app that the server starts.

    Args:
        app_dir: folder of the app; the bundles are in its folder ``model``.
        studies: folder of the images.
        conf: ``models``, comma separated; ``epistemic_model``, the one whose uncertainty orders the images;
            ``epistemic_dropout`` (0.2), ``epistemic_simulation_size`` (5), ``epistemic_max_samples`` (0: all);
            ``queue_length`` (8), the requests that may wait for one bundle; ``idle_seconds`` (1800) after which the
            process of a bundle ends.

    Raises:
        RuntimeError: if there is no front before it: whoever reached the server could then run code.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        if not os.environ.get(BEHIND):
            raise RuntimeError("this app runs only behind its front; start it with: python -m tools label serve")
        self.bundles: dict[str, str] = get_bundle_models(app_dir, {**conf, "zoo_source": "local"})
        self.scored = conf.get("epistemic_model", "")
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="custom_networks",
            description="Attention networks for 3D medical images",
            version=monailabel.__version__,
        )

    def init_infers(self) -> dict[str, Bundle]:
        """Return the inference tasks of all bundles."""
        return tasks_of(self.bundles, self.conf)

    def init_trainers(self) -> dict[str, Training]:
        """Return a training task for every segmentation bundle: what viewers save are masks, not classes."""
        return {name: Training(path, self.conf) for name, path in self.bundles.items() if CLASSIFICATION not in name}

    def init_strategies(self) -> dict[str, Any]:
        """Return the ways to choose the next image."""
        return {"random": RandomImage(), "first": First(), **({"epistemic": Epistemic()} if self.scored else {})}

    def init_scoring_methods(self) -> dict[str, EpistemicScoring]:
        """Return the score of the bundle whose uncertainty orders the images."""
        if not self.scored:
            return {}
        task = Uncertainty(
            self.bundles[self.scored],
            self.conf,
            train_mode=True,
            skip_writer=True,
            dropout=float(self.conf.get("epistemic_dropout", DROPOUT)),
        )
        size = int(self.conf.get("epistemic_simulation_size", SIMULATIONS))
        most = int(self.conf.get("epistemic_max_samples", 0))
        return {self.scored: EpistemicScoring(task, max_samples=most, simulation_size=size)}

    def on_init_complete(self) -> None:
        """Let the server answer while it computes; only the server calls this, no task in the background."""
        from monailabel.app import app

        run_beside_the_loop(app, sum(task.worker.length + SPARE for task in self._infers.values()))
        super().on_init_complete()

    def init_batch_infer(self) -> Batch:
        """Return the inference of many images."""
        return Batch()

    def cleanup_sessions(self) -> None:
        """Remove images that were sent for a session and not used for long; every five minutes."""
        if (sessions := self._sessions) is not None:
            remove_expired(Path(sessions.store_path), sessions.expiry, sessions)

    def _local_request(self, url: str, params: dict[str, Any] | None, action: str) -> Any:
        # How a training, which has a process of its own, asks the server for new scores.
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy reaches this machine's own address, or is to see the token
                answer = session.post(
                    f"http://{os.environ[ADDRESS]}:{settings.MONAI_LABEL_SERVER_PORT}{url}",
                    json=params or {},
                    headers={"Authorization": f"Bearer {os.environ[BEHIND]}"},
                    timeout=60,
                )
        except requests.RequestException:  # the training itself is done
            logger.exception("%s did not start", action)
            return None
        if not answer.ok:
            logger.error("%s did not start: %s", action, answer.text)
        return answer.json() if answer.ok else None

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Run a model on an image.

        Args:
            request: the request.
            datastore: where the images are.

        Raises:
            HTTPException: 404 for an unknown model or image, 413 for an image that the memory does not hold, 422 for
                one that cannot be used, 429 if too many requests wait, 503 if the process was ended, 500 otherwise,
                each with one sentence.
        """
        model, image = request.get("model"), request.get("image")
        if model not in self._infers:
            raise HTTPException(404, f"there is no model {model}; use one of {', '.join(self._infers)}")
        if self._infers[model].type == CLASSIFICATION:
            request = {**request, "save_label": False}
        if isinstance(image, str) and not Path(image).exists():
            try:
                uri = (datastore or self.datastore()).get_image_uri(image)
            except MONAILabelException:
                uri = ""
            if not uri or not Path(uri).exists():
                raise HTTPException(404, f"there is no image {image} in {self.studies}")
        try:
            return dict(super().infer(request, datastore))
        except HTTPException:
            raise
        except Exception as error:
            logger.exception("inference")
            status = 422 if isinstance(first_cause(error), ValueError) else 500
            raise HTTPException(status, f"{model} failed on {image}: {sentence(error)}") from error
