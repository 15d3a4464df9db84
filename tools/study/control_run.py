"""One training of the positive control: a network, a task and a seed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.files import read_json, write_text
from custom_networks.plugging import plug
from custom_networks.registry import ATTENTION
from tools.study.control_net import POINT, TRUNK, PlainUnet, WithCoordinates
from tools.study.control_tasks import SIZE, TASKS, Volumes, draw

PLAIN, COORDINATES, INSTANCE_NORM = "plain", "plain_coordinates", "plain_instance_norm"
NETWORKS = (PLAIN, INSTANCE_NORM, COORDINATES, *ATTENTION)
"""The networks that are trained: the plain one, its two variants, and the plain one with each module."""
TRAINING, EVALUATION = 0, 1
"""First numbers of the keys from which volumes are drawn, so that none is in both."""
RECIPE: dict[str, Any] = {
    "batch_size": 8,
    "learning_rate": 3e-3,
    "trunk": 0.1,
    "warm_up": 0.1,
    "weight_decay": 0.01,
    "volumes": 512,
}
"""What is the same in all runs: ``volumes`` are those of the evaluation, ``warm_up`` is a share of the steps, and
``trunk`` one of the learning rate, at which the convolutions on the way down learn."""


def build(network: str, task: str) -> nn.Module:
    """Return an untrained network.

    Args:
        network: one of :data:`NETWORKS`.
        task: a name of :data:`tools.study.control_tasks.TASKS`, which decides the padding.

    Example:
        >>> build("squeeze_excitation", "what").coarsest.plugged_attention[0].attention.squeeze.in_features
        32
    """
    padding_mode = TASKS[task].padding_mode
    if network == COORDINATES:
        return WithCoordinates(PlainUnet(1 + len(SIZE), padding_mode=padding_mode))
    if network == INSTANCE_NORM:
        return PlainUnet(norm="instance", padding_mode=padding_mode)
    plain = PlainUnet(padding_mode=padding_mode)
    return plain if network == PLAIN else plug(plain, POINT, network)


def train(network: str, task: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one network on volumes of which none comes twice, and measure it on others.

    The loss is the cross-entropy of the voxels of both blobs. In the evaluation the mean logit over its voxels decides
    for a blob, and one blob of each volume counts, since the class of the second would often follow from the first.

    Args:
        network: one of :data:`NETWORKS`.
        task: a name of :data:`tools.study.control_tasks.TASKS`.
        seed: of the weights and of all volumes.
        steps: of the optimiser.

    Returns:
        The record of the run: what was asked for, ``correct`` of how many ``volumes``, the mean loss of the last tenth
        of the steps, parameters and seconds.
    """
    torch.manual_seed(seed)
    model = build(network, task).train()
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in model.named_parameters():
        groups[in_trunk(name)].append(parameter)
    rate = RECIPE["learning_rate"]
    optimiser = torch.optim.AdamW([{"params": own} for own in groups], lr=rate, weight_decay=RECIPE["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [rate, rate * RECIPE["trunk"]], total_steps=steps, pct_start=RECIPE["warm_up"]
    )
    losses = []
    start = time.perf_counter()
    for step in range(steps):
        loss = _loss(model, draw(task, (TRAINING, seed, step), RECIPE["batch_size"]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    seconds = time.perf_counter() - start
    last = losses[-max(1, steps // 10) :]
    return {
        **request(network, task, seed, steps),
        "correct": correct(model, task, seed, RECIPE["volumes"]),
        "loss": round(sum(last) / len(last), 4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds": round(seconds, 1),
        "torch": torch.__version__,
    }


def in_trunk(name: str) -> bool:
    """Return whether a parameter of a network of :func:`build` belongs to a convolution on the way down.

    Args:
        name: of the parameter.

    Example:
        >>> in_trunk("network.fine.0.weight"), in_trunk("coarsest.plugged_attention.0.gamma")
        (True, False)
    """
    level = name.removeprefix("network.").partition(".")[0]
    return level in TRUNK and "plugged_attention" not in name


def request(network: str, task: str, seed: int, steps: int) -> dict[str, Any]:
    """Return all that decides the result of a run."""
    return {"network": network, "task": task, "seed": seed, "steps": steps, **RECIPE}


def _loss(model: nn.Module, volumes: Volumes) -> Tensor:
    blobs, classes = torch.from_numpy(volumes.blobs), torch.from_numpy(volumes.classes)
    logits = model(torch.from_numpy(volumes.images)).expand(blobs.shape)
    wanted = classes[:, :, None, None, None].expand(blobs.shape).to(logits)
    return F.binary_cross_entropy_with_logits(logits[blobs], wanted[blobs])


@torch.no_grad()
def correct(model: nn.Module, task: str, seed: int, volumes: int) -> int:
    """Count the fresh volumes of whose first blob a network says the class.

    Args:
        model: the network.
        task: a name of :data:`tools.study.control_tasks.TASKS`.
        seed: that of its training; the volumes are others.
        volumes: how many.
    """
    model.eval()
    count = 0
    for number, first in enumerate(range(0, volumes, 64)):
        drawn = draw(task, (EVALUATION, seed, number), min(64, volumes - first))
        blobs = torch.from_numpy(drawn.blobs[:, 0])
        logits = (model(torch.from_numpy(drawn.images))[:, 0] * blobs).sum((1, 2, 3))
        count += int(((logits > 0) == torch.from_numpy(drawn.classes[:, 0] > 0)).sum())
    return count


def run_path(folder: Path, network: str, task: str, seed: int) -> Path:
    """Return the file of one run.

    Args:
        folder: where the runs lie.
        network: one of :data:`NETWORKS`.
        task: a name of :data:`tools.study.control_tasks.TASKS`.
        seed: of the run.
    """
    return folder / f"{network}_{task}_seed{seed}.json"


def is_done(folder: Path, network: str, task: str, seed: int, steps: int) -> bool:
    """Return whether a run is kept.

    Args:
        folder: where the runs lie.
        network: one of :data:`NETWORKS`.
        task: a name of :data:`tools.study.control_tasks.TASKS`.
        seed: of the run.
        steps: of the run.

    Raises:
        ValueError: if one of another recipe lies there.
    """
    file = run_path(folder, network, task, seed)
    if not file.is_file():
        return False
    kept, wanted = read_json(file), request(network, task, seed, steps)
    if differing := [key for key in wanted if kept.get(key) != wanted[key]]:
        raise ValueError(f"{file} is a run of other {', '.join(differing)}; give another --work_dir, or delete it")
    return True


def run(folder: Path, network: str, task: str, seeds: list[int], steps: int) -> None:
    """Train a network on a task with several seeds, and keep one file per run as soon as it is done.

    Args:
        folder: where the runs lie.
        network: one of :data:`NETWORKS`.
        task: a name of :data:`tools.study.control_tasks.TASKS`.
        seeds: of the runs.
        steps: of each run.
    """
    for seed in seeds:
        record = train(network, task, seed, steps)
        write_text(run_path(folder, network, task, seed), json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    job = json.loads(sys.argv[1])
    run(Path(job.pop("folder")), **job)
