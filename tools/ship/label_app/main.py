"""MONAI Label app for these bundles: the stock ``monaibundle`` app, and what it lacks.

Runs inside the MONAI Label server, in an environment where this repository is not installed. Beyond the stock app:

- every bundle runs its own ``custom_networks``, whatever other bundles the server holds;
- the strategy "epistemic" offers the image first that the network is least sure of, by the entropy of its class
  probabilities under dropout; the stock score takes class numbers for probabilities, and no strategy uses it;
- classification bundles answer with probabilities;
- a request that cannot be met ends in one sentence;
- a training with ``pretrained`` false starts, and one whose processes fail is not reported as done;
- the state of a training, ``last_checkpoint.pt``, is not offered as a model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import monailabel
from fastapi import HTTPException
from monai.transforms import Activationsd
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelException
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import get_bundle_models

PACKAGE = "custom_networks"
TRAINING_STATE = "last_checkpoint.pt"
DROPOUT = 0.2
SIMULATIONS = 5

logger = logging.getLogger(__name__)


class OwnCode:
    """The modules of each bundle's vendored package; one bundle's are in ``sys.modules`` at a time.

    Python knows one package of a name. The modules are exchanged whenever a bundle with other code runs, and one bundle
    runs at a time, because what a config names is imported while it runs.
    """

    lock = threading.RLock()
    known: ClassVar[dict[str, dict[str, ModuleType]]] = {}
    current = ""

    @classmethod
    @contextmanager
    def of(cls, bundle: str) -> Iterator[None]:
        """Run with the package of a bundle.

        Args:
            bundle: the bundle's folder.
        """
        digest = code_digest(Path(bundle) / PACKAGE)
        with cls.lock:
            if digest != cls.current:
                loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == PACKAGE}
                cls.known[cls.current] = loaded
                sys.modules.update(cls.known.get(digest, {}))
                cls.current = digest
            sys.path.insert(0, bundle)
            try:
                yield
            finally:
                sys.path.remove(bundle)


def code_digest(package: Path) -> str:
    """Return a checksum of the Python files of a package.

    Args:
        package: its folder.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def first_cause(error: BaseException) -> BaseException:
    """Return what went wrong first.

    Args:
        error: the error that arrived, often wrapped by MONAI.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def sentence(error: BaseException) -> str:
    """Return what went wrong first, on one line.

    Args:
        error: the error that arrived.
    """
    cause = first_cause(error)
    return " ".join(str(cause).split()) or type(cause).__name__


def without_state(config: dict[str, Any]) -> dict[str, Any]:
    """Leave the state of a training out of the models that viewers offer.

    Args:
        config: options of a task, changed in place.
    """
    config["model_filename"] = [name for name in config.get("model_filename", []) if name != TRAINING_STATE]
    return config


class Segmentation(BundleInferTask):
    """Inference of a segmentation bundle."""

    def __init__(self, path: str, conf: Mapping[str, str], **options: Any) -> None:
        with OwnCode.of(path):
            super().__init__(path, conf, **options)
            self._check_code(path)
        without_state(self._config)

    def _check_code(self, path: str) -> None:
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

    def run_pre_transforms(self, data: dict[str, Any], transforms: Any) -> Any:
        """Load and prepare the image.

        Args:
            data: the request.
            transforms: the bundle's preprocessing.

        Raises:
            HTTPException: 422 if the image cannot be read or does not fit.
        """
        image = data.get("image")
        try:
            return super().run_pre_transforms(data, transforms)
        except Exception as error:
            logger.exception("preprocessing")
            raise HTTPException(422, f"{image} cannot be used: {sentence(error)}") from error


class Uncertainty(Segmentation):
    """Class probabilities on the network's grid with dropout on, of which the score is computed."""

    def post_transforms(self, data: Any = None) -> list[Callable]:
        """Return the transform that makes probabilities of logits, and nothing after it.

        Args:
            data: the request.
        """
        return [transform for transform in super().post_transforms(data) if isinstance(transform, Activationsd)]


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
        answer = {"probabilities": probabilities}
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump(answer, file)
        return file.name, answer


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


class BundlesApp(MONAILabelApp):
    """The app that the server starts.

    Args:
        app_dir: folder of the app; the bundles are in its folder ``model``.
        studies: folder of the images.
        conf: ``models``, comma separated; ``epistemic_model``, the one whose uncertainty orders the images;
            ``epistemic_dropout`` (0.2), ``epistemic_simulation_size`` (5), ``epistemic_max_samples`` (0: all).
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
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

    def init_infers(self) -> dict[str, Segmentation]:
        """Return an inference task for every bundle."""
        return {
            name: (Classification if "classification" in name else Segmentation)(path, self.conf)
            for name, path in self.bundles.items()
        }

    def init_trainers(self) -> dict[str, Training]:
        """Return a training task for every segmentation bundle: what viewers save are masks, not classes."""
        return {name: Training(path, self.conf) for name, path in self.bundles.items() if "classification" not in name}

    def init_strategies(self) -> dict[str, Any]:
        """Return the ways to choose the next image."""
        return {"random": Random(), "first": First(), **({"epistemic": Epistemic()} if self.scored else {})}

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

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Run a model on an image.

        Args:
            request: the request.
            datastore: where the images are.

        Raises:
            HTTPException: 404 for an unknown model or image, 422 for an image that cannot be used, 500 otherwise, each
                with one sentence.
        """
        model, image = request.get("model"), request.get("image")
        if model not in self._infers:
            raise HTTPException(404, f"there is no model {model}; use one of {', '.join(self._infers)}")
        if isinstance(self._infers[model], Classification):
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
