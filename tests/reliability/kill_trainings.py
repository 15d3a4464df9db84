"""Train, be killed at a random moment, resume: twenty times, each in forks of a process that has imported everything.

Run as ``python -m tests.reliability.kill_trainings FOLDER``: FOLDER gets ``straight``, the training that nobody
disturbs, ``killed_00`` and so on, and ``moments.json``, which says when each was killed.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import custom_networks.workflow as ours
from custom_networks.workflow.infer.inferers import MirrorSlidingWindowInferer
from tests.synthetic import SEGMENTATION, config, run, tiny_training, write_dataset

KILLS = 20
EPOCHS = 4
BUNDLE = SEGMENTATION[0]
PLACES = ("step", "validation", "save", "replace")
COUNTS: Counter[str] = Counter()
# what a training imports in its course
IMPORTED = """monai.bundle monai.engines monai.handlers torch.utils.tensorboard custom_networks.nets
custom_networks.workflow.train.checkpoint custom_networks.workflow.train.handlers"""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_each(owner: Any, name: str, place: str, act: Callable[[Callable[..., Any], tuple, dict], Any] | None) -> None:
    """Count the calls of a function, and let ``act`` take the place of the one whose turn it is."""
    real = getattr(owner, name)

    def counted(*arguments: Any, **more: Any) -> Any:
        COUNTS[place] += 1
        return act(real, arguments, more) if act else real(*arguments, **more)

    setattr(owner, name, counted)


def arm(moment: dict[str, Any] | None) -> None:
    """Kill this process at a moment of the training; without one, only count the moments that there are."""

    def when(place: str, attack: Callable[..., Any]) -> Callable[..., Any] | None:
        if moment is None or moment["place"] != place:
            return None
        return lambda real, arguments, more: (
            attack(real, arguments, more) if COUNTS[place] == moment["number"] else real(*arguments, **more)
        )

    def before_or_after(real: Callable[..., Any], arguments: tuple, more: dict) -> None:
        if moment["share"] > 0.5:
            real(*arguments, **more)
        die()

    def half_written(real: Callable[..., Any], arguments: tuple, more: dict) -> None:
        whole = io.BytesIO()
        real(arguments[0], whole)
        with Path(arguments[1]).open("wb") as file:
            file.write(whole.getvalue()[: int(len(whole.getvalue()) * moment["share"])])
            file.flush()
            die()

    at_each(torch.optim.AdamW, "step", "step", when("step", before_or_after))
    at_each(MirrorSlidingWindowInferer, "__call__", "validation", when("validation", before_or_after))
    at_each(torch, "save", "save", when("save", half_written))
    at_each(Path, "replace", "replace", when("replace", before_or_after))


def epoch_of(checkpoint: Path) -> int:
    """Return the last epoch in a resumable state."""
    trainer = torch.load(checkpoint, weights_only=True)["trainer"]
    return trainer["iteration"] // trainer["epoch_length"]


def in_fork(act: Callable[[], None]) -> int:
    """Do something in a process of its own, and return how that ended, as ``os.waitpid`` says it."""
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    code = 1
    try:
        act()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(folder: Path) -> None:
    for module in IMPORTED.split():
        importlib.import_module(module)
    torch.set_num_threads(1)
    ours.report_memory = lambda *_, **__: None  # takes seconds; tests/workflow/memory
    data = write_dataset(folder / "data")
    transforms = config(BUNDLE)["train"]["random_transforms"]
    knobs = {f"train#random_transforms#{i}#prob": 0.5 for i, transform in enumerate(transforms) if "prob" in transform}
    knobs |= {"mirror_axes": [0, 2], "network_def#dropout": 0.3, "epochs": EPOCHS, "val_interval": 2}

    def train(name: str, moment: dict[str, Any] | None = None, **more: Any) -> int:
        def act() -> None:
            arm(moment)
            run(BUNDLE, "train", tiny_training(BUNDLE, data, folder / name, **knobs, **more))
            if name == "straight":
                (folder / "counts.json").write_text(json.dumps(COUNTS))

        return in_fork(act)

    assert train("straight") == 0
    counts = json.loads((folder / "counts.json").read_text())
    generator = random.Random(0)
    moments = []
    for number in range(KILLS):
        place, name = PLACES[number % len(PLACES)], f"killed_{number:02d}"
        moment = {"place": place, "number": generator.randint(1, counts[place]), "share": generator.random()}
        killed = train(name, moment)
        assert os.WIFSIGNALED(killed), f"{moment} ended with {killed}"
        last = folder / name / "last_checkpoint.pt"
        epoch = epoch_of(last) if last.is_file() else 0
        moments.append({**moment, "folder": name, "signal": os.WTERMSIG(killed), "epoch": epoch})
        if epoch < EPOCHS:  # killed after the last state was in its place, a training is complete
            go_on = {"resume_ckpt": str(last)} if epoch else {"overwrite": True}
            assert train(name, **go_on) == 0, moment
    (folder / "moments.json").write_text(json.dumps(moments, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
