"""CPU time of nnU-Net's own samples; runs as a script in an environment of nnU-Net, see ``bench_loader``."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tools.bench.loader_cases import BATCH, CASES, cpu_seconds, make_case

TURN = 30 / 360 * 2 * np.pi
AXES = (0, 1, 2)
SCALES = (0.85, 1.25)
"""As the trainer has them for patches that are about as long along each axis."""
FOREGROUND = 0.33


class Cases:
    """Cases in the memory, in the words of nnU-Net's data sets."""

    def __init__(self) -> None:
        self.cases = [make_case(seed) for seed in range(CASES)]
        self.identifiers = [str(number) for number in range(CASES)]
        self.places = [{value: some_places(label == value) for value in (1, 2, 3)} for _, label in self.cases]

    def load_case(self, identifier: str) -> tuple[np.ndarray, np.ndarray, None, dict[str, Any]]:
        """Return image, label, no earlier label, and the places of the classes.

        Args:
            identifier: one of ``identifiers``.
        """
        number = int(identifier)
        return *self.cases[number], None, {"class_locations": self.places[number]}


def some_places(mask: np.ndarray) -> np.ndarray:
    """Return about as many places of a class as nnU-Net's preprocessing keeps.

    Args:
        mask: where the class is.
    """
    places = np.argwhere(mask)
    return places[:: max(1, len(places) // 10_000)]


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Return seconds per sample for each patch size.

    Args:
        job: ``sizes``, ``samples``, and ``turned``, the chance to turn and that to scale, or None for the trainer's.
    """
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002 - from which nnU-Net draws
    torch.manual_seed(0)
    cases, labels = Cases(), SimpleNamespace(all_labels=[1, 2, 3], has_ignore_label=False)
    seconds, names = {}, []
    for size, samples in zip(job["sizes"], job["samples"], strict=True):
        patch = (size, size, size)
        transforms = nnUNetTrainer.get_training_transforms(
            patch, (-TURN, TURN), None, AXES, False, use_mask_for_norm=[False], foreground_labels=[1, 2, 3]
        )
        names = [type(getattr(part, "transform", part)).__name__ for part in transforms.transforms]
        if job["turned"] is not None:
            spatial = transforms.transforms[0]
            # both apart, so that the share that is either turned or scaled is the one that is asked for
            spatial.p_rotation = spatial.p_scaling = 1 - (1 - job["turned"]) ** 0.5
        larger = get_patch_size(patch, *[(-TURN, TURN)] * 3, SCALES)
        loader = nnUNetDataLoader(cases, BATCH, larger, patch, labels, FOREGROUND, transforms=transforms)
        seconds[str(size)] = cpu_seconds(loader.generate_train_batch, samples)
    versions = {name: importlib.metadata.version(name) for name in ("nnunetv2", "batchgeneratorsv2", "torch")}
    return {"seconds": seconds, "transforms": names, "versions": versions}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
