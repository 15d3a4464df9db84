"""What is known of the data that weights were trained on: written beside them, and looked up by a prediction."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from custom_networks.failures import on_one_line
from custom_networks.files import checksum, read_json, write_text
from custom_networks.workflow.data.volumes import read_volume
from custom_networks.workflow.report.image_facts import LIMITED, image_facts, short, spread
from custom_networks.workflow.report.volumes import measure, structures_of
from custom_networks.workflow.transforms.class_labels import LabelValues
from custom_networks.workflow.transforms.regions import Regions

logger = logging.getLogger(__name__)

DESCRIPTION = "training_data.json"
"""The file beside the weights."""
OWN_TRAINING = "the training cases of a user"
_NUMBERS = re.compile(r"\[[\s\d.,e+-]*\]")


class TrainingData:
    """Gather what the cases of a training are like, and write that beside its weights.

    It holds numbers alone, no name and no path. A fine-tuned network is described by the cases of the last training.
    What cannot be described ends no training: a warning says why there is no description.

    Args:
        label_names: names of the classes, background first.
        label_values: label values of the classes, see
            :func:`custom_networks.workflow.transforms.class_labels.class_values`.
        regions: label values of the regions, see
            :func:`custom_networks.workflow.transforms.regions.region_values`.
        ignore_value: value of voxels without a label; the structures of a case that holds it are not measured, since
            nobody knows where they end.
        source: what the data are, in words.
        modality: how they were taken; from their intensities, if None, which tell CT from all else.
    """

    def __init__(
        self,
        label_names: Sequence[str],
        label_values: LabelValues = None,
        regions: Regions = None,
        ignore_value: int | None = None,
        source: str = OWN_TRAINING,
        modality: str | None = None,
    ) -> None:
        self.classes = (label_names, label_values, regions)
        self.ignore_value = ignore_value
        self.source, self.modality = source, modality
        self.images: list[dict[str, Any]] = []
        self.measures: dict[str, list[dict[str, Any]]] = {name: [] for name in label_names[1:]}
        self.failure = ""

    def add(self, image: MetaTensor, label: MetaTensor) -> None:
        """Add a case.

        Args:
            image: ``(C, *S)``, as read.
            label: ``(1, *S)``, label values as in the file.
        """
        if self.failure:
            return
        try:
            self._add(np.asarray(image), np.asarray(label)[0], np.asarray(image.affine))
        except Exception as error:  # a report is no reason not to train
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failure = on_one_line(error)
        logger.warning("the training data are not described (%s); the training goes on without", self.failure)

    def _add(self, image: np.ndarray, label: np.ndarray, affine: np.ndarray) -> None:
        facts = image_facts(image, affine)
        if self.ignore_value is None or not (label == self.ignore_value).any():
            for found in measure(label, affine, structures_of(*self.classes, of_masks=False)):
                self.measures[found["name"]].append(found)
        self.images.append(facts)

    def describe(self) -> dict[str, Any]:
        """Return the description of the cases added so far, at least one.

        Returns:
            ``format``, ``cases``, ``source``, ``modality``, the result of
            :func:`custom_networks.workflow.report.image_facts.spread`, and by the name of the structure ``volumes_ml``,
            sorted, 0 where it is absent, ``largest_piece_share``, the least of the cases, and ``border_share``, the
            share of the cases where it touches the border of the image.
        """
        facts = spread(self.images)
        present = {name: [m for m in found if m["voxels"]] for name, found in self.measures.items()}
        return {
            **{"format": 1, "cases": len(self.images), "source": self.source},
            "modality": self.modality or ("CT" if facts["intensity"][0]["hounsfield"] == 1 else "MR or other"),
            **facts,
            "volumes_ml": {name: short(sorted(m["volume_ml"] for m in found)) for name, found in self.measures.items()},
            "largest_piece_share": {
                name: short([min(m["largest_piece_share"] for m in found)])[0]
                for name, found in present.items()
                if found
            },
            "border_share": {
                name: short([sum(m["touches_border"] for m in found) / len(found)])[0]
                for name, found in present.items()
                if found
            },
        }

    def write(self, weights: Path) -> None:
        """Write the description beside weights that lie there already; nothing, if no case was added.

        Args:
            weights: their file.
        """
        if self.failure or not self.images:
            return
        try:
            write_description(weights, self.describe())
        except OSError as error:
            self._fail(error)

    def write_of_start(self, weights: Path, start: Path) -> None:
        """Write the description of the weights that the training started from, where they have one, beside them.

        Args:
            weights: their file.
            start: the file that they were taken from.
        """
        try:
            if found := read_training_data(start):
                write_description(weights, found)
        except (OSError, ValueError) as error:
            logger.warning("the training data of the weights at the start are not described (%s)", on_one_line(error))


def describe(
    cases: Iterable[Mapping[str, Any]],
    label_names: Sequence[str],
    label_values: LabelValues = None,
    regions: Regions = None,
    ignore_value: int | None = None,
    source: str = OWN_TRAINING,
    modality: str | None = None,
) -> dict[str, Any]:
    """Return what the cases of a training are like, read one after the other.

    Args:
        cases: with ``image`` and ``label``, as the configs list them.
        label_names: see :class:`TrainingData`, as for all that follow.
        label_values: see there.
        regions: see there.
        ignore_value: see there.
        source: see there.
        modality: see there.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if there is no case, or one cannot be described.
    """
    data = TrainingData(label_names, label_values, regions, ignore_value, source, modality)
    for case in cases:
        data.add(read_volume(case["image"]), read_volume(case["label"], labels=True))
        if data.failure:
            raise ValueError(f"{case['image']} cannot be described: {data.failure}; remove it from the cases")
    if not data.images:
        raise ValueError("there is no case to describe, got an empty list; give the cases of the training")
    return data.describe()


def write_description(weights: Path, description: Mapping[str, Any]) -> Path:
    """Write a description beside weights, with their checksum, and return its file.

    Args:
        weights: their file.
        description: result of :func:`describe`.
    """
    file = weights.with_name(DESCRIPTION)
    text = json.dumps({**description, "weights": checksum(weights)}, indent=1)
    # the numbers of one list stay on one line
    write_text(file, _NUMBERS.sub(lambda found: json.dumps(json.loads(found[0])), text) + "\n")
    return file


def read_training_data(weights: Path) -> dict[str, Any] | None:
    """Return what is known of the data that weights were trained on, or None.

    Args:
        weights: their file; a description of other weights is none of these.

    Raises:
        ValueError: if the file is no description.
    """
    file = weights.with_name(DESCRIPTION)
    if not file.is_file():
        return None
    found = read_json(file)
    if not _is_description(found):
        raise ValueError(
            f"{file} is no description of training data; delete it, and nothing is compared with what was trained on"
        )
    return found if weights.is_file() and found["weights"] == checksum(weights) else None


def _is_description(found: Mapping[str, Any]) -> bool:
    kinds = {"weights": str, "cases": int, "source": str, "modality": str, "intensity": list}
    kinds |= dict.fromkeys(("volumes_ml", "largest_piece_share", "border_share"), dict)
    if found.get("format") != 1 or not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
        return False
    axes = [found.get(key) for key in ("shape", "spacing", "extent_mm")]
    limits = [
        list(axis.values()) if isinstance(axis, dict) and axis.keys() == {"least", "most"} else [[]] for axis in axes
    ]
    pairs = [channel.get(key) for channel in found["intensity"] if isinstance(channel, dict) for key in LIMITED]
    return (
        all(_numbers(own, 3) for pair in limits for own in pair)
        and len(pairs) == len(LIMITED) * len(found["intensity"]) > 0
        and all(_numbers(pair, 2) for pair in pairs)
        and all(isinstance(channel.get("hounsfield"), int | float) for channel in found["intensity"])
        and all(_numbers(volumes) for volumes in found["volumes_ml"].values())
        and all(_numbers(list(found[key].values())) for key in ("largest_piece_share", "border_share"))
    )


def _numbers(values: Any, count: int | None = None) -> bool:
    return (
        isinstance(values, list)
        and (count is None or len(values) == count)
        and all(isinstance(value, int | float) for value in values)
    )
