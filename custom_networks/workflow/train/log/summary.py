"""What a training says of itself before its first step and after its last one."""

from __future__ import annotations

import logging
import shlex
import sys
from ast import literal_eval
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import ignite.distributed as idist
import torch
from monai.engines import SupervisedTrainer

from custom_networks.workflow.guard.errors import on_the_command_line
from custom_networks.workflow.guard.sides import LEFT_RIGHT_AXIS, side_pairs
from custom_networks.workflow.infer.inferers import network_dtype
from custom_networks.workflow.train.checkpoint import BestCheckpoint, bare
from custom_networks.workflow.train.log.curve import class_dice, draw_curve, read_curve

logger = logging.getLogger(__name__)
ONLY_TRAINING = ("resume_ckpt", "overwrite", "report")
"""Knobs of a training that the commands after it are without."""
OF_SEVERAL = "multi_gpu_train"


def say_start(
    trainer: SupervisedTrainer,
    *,
    training: Sequence[object],
    validation: Sequence[object],
    label_names: Sequence[str],
    patch_size: Sequence[int],
    batch_size: int,
    amp: bool,
    output_dir: str | Path,
) -> None:
    """Log what is about to be trained: cases, classes, patch, batch and steps, device, and where to watch it.

    Args:
        trainer: the MONAI trainer.
        training: the training cases.
        validation: the validation cases.
        label_names: the knob of that name.
        patch_size: the knob of that name.
        batch_size: the knob of that name.
        amp: the knob of that name.
        output_dir: the knob of that name.
    """
    if idist.get_rank() > 0:
        return
    state, device = trainer.state, torch.device(trainer.state.device)
    sides = side_pairs(label_names)
    flips = f"; {sides[0][0]} and {sides[0][1]} keep flips off axis {LEFT_RIGHT_AXIS}" if sides else ""
    accumulated = f" x {trainer.accumulation_steps} accumulated" if trainer.accumulation_steps > 1 else ""
    processes = f" x {idist.get_world_size()} processes" if idist.get_world_size() > 1 else ""
    dtype = network_dtype(device, amp, bare(trainer.network), patch_size)
    logger.info("cases: %d to train, %d to validate", len(training), len(validation))
    logger.info("classes: %s%s", ", ".join(label_names), flips)
    logger.info(
        "steps: patch %s, batch %d%s%s, %d batches an epoch, %d epochs, %d batches in all",
        " x ".join(map(str, patch_size)),
        batch_size,
        accumulated,
        processes,
        state.epoch_length,
        state.max_epochs,
        state.epoch_length * state.max_epochs,
    )
    logger.info(
        "device: %s, the network in %s; watch it with: tensorboard --logdir %s",
        device,
        str(dtype).removeprefix("torch."),
        shlex.quote(str(output_dir)),
    )


def say_end(best_checkpoint: BestCheckpoint, *, metric: str, output_dir: str | Path, ckpt_dir: str | Path) -> None:
    """Log the best epoch with the Dice of its classes, where everything is, and the next two commands.

    Beside the curve ``training.png`` is written, if matplotlib is installed.

    Args:
        best_checkpoint: what has kept the best weights.
        metric: what the key metric is, in words.
        output_dir: the knob of that name.
        ckpt_dir: the knob of that name.
    """
    if idist.get_rank() > 0:
        return
    curve = Path(output_dir) / "training_curve.csv"
    row = next((row for row in read_curve(curve) if int(row["epoch"]) == best_checkpoint.best_epoch), {})
    classes = ", ".join(f"{name} {dice:.3f}" for name, dice in class_dice(row).items())
    if best_checkpoint.best_epoch:
        best = f"best epoch: {best_checkpoint.best_epoch}, {metric} {best_checkpoint.best_metric:.4f}"
        logger.info("%s%s", best, f": {classes}" if classes else "")
    picture = draw_curve(curve, metric)
    if picture is None and find_spec("matplotlib") is None:
        logger.info("there is no training.png, which matplotlib draws; pip install matplotlib")
    logger.info("weights: %s; curve: %s%s", Path(ckpt_dir) / "model.pt", curve, f", {picture}" if picture else "")
    if on_the_command_line():
        argv = [*sys.argv[1:]]
        logger.info("evaluate them: %s", next_command(argv, "evaluate", {"ckpt_dir": str(ckpt_dir)}))
        images = {"dataset_dir": "<image or folder>", "ckpt_dir": str(ckpt_dir)}
        logger.info("predict with them: %s", next_command(argv, "inference", images))


def next_command(argv: Sequence[str], config: str, overrides: dict[str, str]) -> str:
    """Return the command that runs another config of the bundle with the overrides of a training.

    Args:
        argv: the words of the training after ``python -m monai.bundle``.
        config: "evaluate", which is laid over ``train.json``, or "inference".
        overrides: what takes the place of overrides of the training.

    Example:
        >>> print(next_command(["run", "--config_file", "b/train.json", "--fold=1"], "evaluate", {"ckpt_dir": "out"}))
        python -m monai.bundle run --config_file "['b/train.json', 'b/evaluate.json']" --fold=1 --ckpt_dir out
    """
    words, options = _split(argv)
    for name in (*ONLY_TRAINING, *overrides):
        options.pop(name, None)
    value = options["config_file"][-1].removeprefix("--config_file=")
    files = [Path(file) for file in (literal_eval(value) if value.startswith("[") else [value])]
    files = [file for file in files if file.stem != OF_SEVERAL]
    other = str(files[0].with_name(f"{config}.json"))
    chosen = str([*map(str, files), other]) if config == "evaluate" else other
    options["config_file"] = ["--config_file", chosen]
    told = [word for group in options.values() for word in group]
    given = [word for name, value in overrides.items() for word in (f"--{name}", value)]
    return " ".join(["python -m monai.bundle", *map(_quoted, (*words, *told, *given))])


def _quoted(word: str) -> str:
    """Return a word as a shell takes it, in double quotes where it holds single ones, as lists of names do."""
    return f'"{word}"' if "'" in word and not set('"$`\\!') & set(word) else shlex.quote(word)


def _split(argv: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the words before the options, and the words of each option."""
    words: list[str] = []
    options: dict[str, list[str]] = {}
    group = words
    for word in argv:
        if word.startswith("--"):
            group = options.setdefault(word[2:].partition("=")[0], [])
            group.clear()
        group.append(word)
    return words, options
