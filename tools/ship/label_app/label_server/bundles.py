"""A bundle as the server and the viewers see it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.tasks.infer.bundle import BundleConstants
from monailabel.utils.others.generic import device_list

from label_server.models import without_state
from label_server.workers import Worker

CLASSIFICATION, SEGMENTATION, HEAD = "classification", "segmentation", "head"
HEAD_CONFIG = "inference_head.json"
"""The configuration of a bundle that takes whole heads, too."""


class HeadConstants(BundleConstants):
    """Where the stock task finds what a bundle does with whole heads."""

    def configs(self) -> Sequence[str]:
        """Return the names that the configuration may have."""
        return [HEAD_CONFIG]


def classes_of_head(parser: ConfigParser) -> dict[str, int]:
    """Return the values in the mask of a head by the names of the structures.

    Args:
        parser: of ``inference_head.json``.
    """
    found = (f"{place['name']}-{name}".lower() for place in parser["places"] for name in parser["label_names"][1:])
    return {name: value for value, name in enumerate(found, start=1)}


def tasks_of(bundles: Mapping[str, str], conf: Mapping[str, str]) -> dict[str, Bundle]:
    """Return an inference task for every bundle, and one more, ``<bundle>_head``, for those that take whole heads.

    Args:
        bundles: their folders by name.
        conf: the settings of the app.
    """
    tasks = {name: Bundle(path, conf) for name, path in bundles.items()}
    heads = {name: path for name, path in bundles.items() if (Path(path) / "configs" / HEAD_CONFIG).is_file()}
    return tasks | {f"{name}_{HEAD}": Bundle(path, conf, head=True) for name, path in heads.items()}


class Bundle(InferTask):
    """What the files of a bundle say of it; what it computes is computed in a process of its own.

    Nothing of the bundle's code is imported here, so that one that is broken breaks no other.

    Args:
        path: its folder.
        conf: the settings of the app.
        head: whether it gets whole heads, by the bundle's ``inference_head.json``.
    """

    def __init__(self, path: str, conf: Mapping[str, str], head: bool = False) -> None:
        folder, names = Path(path), HeadConstants() if head else BundleConstants()
        metadata = json.loads((folder / "configs" / names.metadata_json()).read_text())
        inputs, outputs = (metadata["network_data_format"][key] for key in ("inputs", "outputs"))
        image, pred = next(iter(inputs.values())), next(iter(outputs.values()))
        parser = ConfigParser()
        parser.read_config(next(file for name in names.configs() if (file := folder / "configs" / name).is_file()))
        classes = {name.lower(): int(value) for value, name in pred.get("channel_def", {}).items()}
        if head:
            classes = classes_of_head(parser)
        kind = CLASSIFICATION if CLASSIFICATION in folder.name else SEGMENTATION
        super().__init__(
            type=kind,
            labels={name: value for name, value in classes.items() if name != "background"},
            dimension=len(image.get("spatial_shape") or (0, 0, 0)),
            description=metadata.get("description"),
            config={
                "device": device_list(),
                "model_filename": sorted((path.name for path in (folder / "models").glob("*.pt")), key=len),
                **parser.get_parsed_content("displayable_configs", default={}),
            },
        )
        without_state(self._config)
        self.version = metadata.get("version")
        self.weights = [folder / "models" / name for name in (names.model_pytorch(), names.model_torchscript())]
        self.worker = Worker(folder, HEAD if head else kind, conf)

    def info(self) -> dict[str, Any]:
        """Return what viewers show."""
        return {**super().info(), "version": self.version}

    def is_valid(self) -> bool:
        """Return whether there are weights."""
        return self.get_path() is not None

    def get_path(self, validate: bool = True) -> str | None:
        """Return the file of the weights.

        Args:
            validate: whether only one that exists will do.
        """
        present = [str(path) for path in self.weights if path.is_file()]
        return present[0] if present else None if validate else str(self.weights[0])

    def __call__(self, request: Any, callbacks: Any = None) -> tuple[Any, dict[str, Any]]:
        """Run the bundle in its process.

        Args:
            request: the request.
            callbacks: unused.
        """
        return self.worker.run(request)
