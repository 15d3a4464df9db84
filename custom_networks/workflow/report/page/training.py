"""What a folder says of the training: the volumes of its cases, and its curve."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from custom_networks.files import read_json
from custom_networks.workflow.report.page.charts import curve

TRAINING_DATA = "training_data.json"
CURVE = "training_curve.csv"


@dataclass(frozen=True)
class TrainingVolumes:
    """Volumes of the cases that weights were trained on.

    Args:
        volumes: in mL, ascending, by structure.
        note: why there are none.
    """

    volumes: Mapping[str, Sequence[float]]
    note: str = ""


def training_volumes(bundles: Sequence[Mapping[str, Any]], reference: Path | None = None) -> TrainingVolumes:
    """Return the volumes of the training cases.

    Args:
        bundles: what made the masks; of several, the first counts.
        reference: the file that has them; ``training_data.json`` beside the weights if None.

    Raises:
        FileNotFoundError: if ``reference`` does not exist.
        ValueError: if a file cannot be read.
    """
    bundle = bundles[0] if bundles else {}
    file = reference or Path(str(bundle.get("weights", ""))).parent / TRAINING_DATA
    if reference is None and not ("weights" in bundle and file.is_file()):
        return TrainingVolumes({}, "Nothing is known of the volumes of the training cases.")
    known = read_json(file)
    if reference is None and known.get("weights") != bundle.get("sha256"):
        return TrainingVolumes({}, f"The {TRAINING_DATA} beside the weights belongs to other weights.")
    try:
        volumes = {name: sorted(map(float, values)) for name, values in known["volumes_ml"].items() if values}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file} names no volumes of training cases in volumes_ml; give a {TRAINING_DATA}") from error
    return TrainingVolumes(volumes)


@dataclass(frozen=True)
class Curve:
    """The curve of a training.

    Args:
        charts: loss, and the validation metric if there is one, each under its name.
        epochs: how many epochs.
        best: the best validation metric and its epoch, if there is one.
    """

    charts: Sequence[tuple[str, Markup]]
    epochs: int
    best: tuple[float, int] | None


def training_curve(file: Path) -> Curve | None:
    """Return the curve of a training, ``None`` if the file is absent or holds no epoch.

    Args:
        file: a ``training_curve.csv``.

    Raises:
        ValueError: if it holds something else.
    """
    if not file.is_file():
        return None
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        losses = [(int(row["epoch"]), float(row["loss"])) for row in rows]
        validated = [(int(row["epoch"]), float(row["validation_metric"])) for row in rows if row["validation_metric"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no training curve; remove it or write it again by a training") from error
    charts = []
    for name, kind, points in (("loss", "loss", losses), ("validation metric", "metric", validated)):
        if points:
            epochs, values = zip(*points, strict=True)
            charts.append((name, curve(epochs, values, name, kind)))
    if not charts:
        return None
    epoch, metric = max(validated, key=lambda point: point[1], default=(0, 0.0))
    return Curve(charts, len(losses), (metric, epoch) if validated else None)
