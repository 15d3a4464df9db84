"""How long a training takes on this machine, by a few of its steps, and the epochs with which it ends in time."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data.utils import dense_patch_slices

from custom_networks.adapt.network import as_config_value
from custom_networks.bundle_folder import configured, task_of
from custom_networks.workflow.data.headers import shapes_of

WARM_UP, MEASURED = 2, 10
# cases that the measured steps are of
FEW_CASES = 4
# what every run of a bundle imports
IMPORTS = "import monai.bundle, monai.engines, monai.handlers, torch.utils.tensorboard"
# run before the training, and as long as there are many cases
CHECKS = ("check_data", "check_patches")
PARTS = ("train", "validate")

Case = Mapping[str, Any]


@dataclass(frozen=True)
class Pace:
    """Seconds of the parts of a training.

    Args:
        start: before the first step, with all cases checked and those to keep in memory loaded.
        step: a step with the loading of its batch.
        epoch: an epoch besides its steps.
        validation: a validation of all cases.
        cases: the training cases, not a time.
    """

    start: float
    step: float
    epoch: float
    validation: float
    cases: int


def measure(bundle: Path, config: Mapping[str, Any], profile: Mapping[str, Any], folds: str | None) -> Pace:
    """Run the training for a dozen steps and a validation of one case, and return its pace.

    What is run is what the config describes, with all its handlers; it writes to a folder that is removed.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        profile: the profile, as it is before :func:`custom_networks.adapt.network.as_config_value`.
        folds: content of the profile's ``folds_file``, where it has one that is not written yet.

    Raises:
        ValueError: if the training fails.
    """
    with tempfile.TemporaryDirectory(prefix="custom_networks_pace_") as folder:
        own: dict[str, Any] = {**profile, "output_dir": folder, "ckpt_dir": folder}
        if folds is not None:
            own["folds_file"] = str(Path(folder) / "folds.json")
            Path(own["folds_file"]).write_text(folds)
        own |= {"epochs": 2, "val_interval": 2, "steps_per_epoch": (WARM_UP + MEASURED) // 2}
        imports = _seconds_of_imports()
        with redirect_stderr(io.StringIO()):  # progress bars
            return _measure(bundle, config, own, imports)


def _seconds_of_imports() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True)
    return time.perf_counter() - start


def _measure(bundle: Path, config: Mapping[str, Any], own: Mapping[str, Any], imports: float) -> Pace:
    lists = configured(config, bundle, [as_config_value(own)])
    cases = [lists.get_parsed_content(f"{part}#dataset#data") for part in PARTS]
    chosen, scales = cases, [1.0, 1.0]
    if task_of(bundle) == "segmentation":  # a classifier's patches are small, and it needs all classes
        shapes = [[shapes_of(case["image"], own["spacing"])[1] for case in part] for part in cases]
        windows = [windows_on(shape, own["patch_size"], own.get("overlap", config["overlap"])) for shape in shapes[1]]
        costs = ([math.prod(shape) for shape in shapes[0]], windows)
        chosen, scales = map(list, zip(*map(_typical, cases, costs, (FEW_CASES, 1)), strict=True))
    data = {f"{part}#dataset#data": list(few) for part, few in zip(PARTS, chosen, strict=True)}
    parser = configured(config, bundle, [as_config_value({**own, **data})])
    start = imports
    for number, entry in enumerate(config["initialize"]):
        if _target(entry).endswith(".seed_training"):
            _timed(parser, f"initialize#{number}")
    for part, scale in zip(PARTS, scales, strict=True):
        start += scale * _timed(parser, f"{part}#dataset")[1]
    for number, item in enumerate(config["run"]):
        target = _target(item)
        if target.endswith(".run_training"):
            break
        start += _timed(parser, f"run#{number}")[1] * (scales[0] if target.endswith(CHECKS) else 1)
    trainer, building = _timed(parser, "train#trainer")
    evaluator, checkpoint = _timed(parser, "validate#evaluator")[0], _timed(parser, "checkpoint")[0]
    checkpoint.attach(trainer)
    steps, validation = _Spans(Events.GET_BATCH_STARTED, Events.ITERATION_COMPLETED), _Spans()
    steps.attach(trainer)
    validation.attach(evaluator)
    trainer.run()
    half = len(steps.spans) // 2
    return Pace(
        start=start + building,
        step=float(np.mean([end - begin for begin, end in steps.spans[WARM_UP:]])),
        epoch=steps.spans[half][0] - steps.spans[half - 1][1],
        validation=scales[1] * (validation.spans[0][1] - validation.spans[0][0]),
        cases=len(cases[0]),
    )


def _target(entry: Any) -> str:
    return str(entry.get("_target_")) if isinstance(entry, Mapping) else ""


def _timed(parser: ConfigParser, name: str) -> tuple[Any, float]:
    """Build an entry of a config, and return it with the seconds that it took."""
    start = time.perf_counter()
    return parser.get_parsed_content(name), time.perf_counter() - start


def windows_on(shape: Sequence[int], patch_size: Sequence[int], overlap: float) -> int:
    """Return how many windows a validation lays over an image, which its time grows with.

    Args:
        shape: voxels of the image per axis.
        patch_size: those of a window.
        overlap: the knob of that name.

    Example:
        >>> windows_on((216, 256, 9), (168, 168, 9), 0.5), windows_on((216, 256, 12), (168, 168, 9), 0.5)
        (6, 12)
    """
    padded = [max(size, window) for size, window in zip(shape, patch_size, strict=True)]
    return len(dense_patch_slices(padded, patch_size, [max(1, int(n * (1 - overlap))) for n in patch_size]))


def _typical(cases: Sequence[Case], costs: Sequence[int], number: int) -> tuple[Sequence[Case], float]:
    """Return a few cases, from cheap to dear, and how many times as much all of them cost together."""
    if len(cases) <= number:
        return cases, 1.0
    order = np.argsort(costs, kind="stable")
    places = [int(order[int((n + 0.5) / number * len(cases))]) for n in range(number)]
    return [cases[place] for place in places], sum(costs) / sum(costs[place] for place in places)


class _Spans:
    """When an engine did something, from one event to another."""

    def __init__(self, begin: Events = Events.STARTED, end: Events = Events.COMPLETED) -> None:
        self.events = begin, end
        self.spans: list[tuple[float, float]] = []
        self.begun = 0.0

    def attach(self, engine: Engine) -> None:
        """Listen to an engine, after all its handlers."""
        engine.add_event_handler(self.events[0], self._begin)
        engine.add_event_handler(self.events[1], self._end)

    def _begin(self) -> None:
        self.begun = time.perf_counter()

    def _end(self) -> None:
        self.spans.append((self.begun, time.perf_counter()))
