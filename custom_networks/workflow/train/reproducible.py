"""Seeds, and which algorithms a GPU may choose."""

from __future__ import annotations

import logging
import os

import ignite.distributed as idist
import torch
from monai.utils import set_determinism

from custom_networks.workflow.train.repeatable import Repeatable

logger = logging.getLogger(__name__)
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The variable without which cuBLAS may choose another algorithm every time; it is read with the first product."""


def seed_training(seed: int, deterministic: bool, device: torch.device | str) -> None:
    """Seed everything, and let cuDNN look for the fastest algorithms unless the run is to be repeatable.

    On a CPU torch's operations are repeatable in any case, for one number of threads, and nothing is switched. On a GPU
    with ``deterministic`` torch takes algorithms that add in a fixed order where it has them; those of the networks and
    the loss of which it has none are replaced (:class:`Repeatable`) until the process ends, and it warns of others.

    Args:
        seed: the knob of that name.
        deterministic: the knob of that name.
        device: the device of the training.
    """
    set_determinism(seed=seed)
    if torch.device(device).type != "cuda":
        return
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        Repeatable().__enter__()
        os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    what = "repeatable" if deterministic else "the fastest, so that a second run differs in the last digits"
    if idist.get_rank() == 0:
        logger.info("deterministic is %s: algorithms of the GPU are %s", str(deterministic).lower(), what)
