"""The baseline of a patch classifier: a random forest on block means."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from sklearn.ensemble import RandomForestClassifier

from custom_networks.files import write_text
from custom_networks.workflow import classification_data_list
from custom_networks.workflow.data.image_checks import check_image
from custom_networks.workflow.data.volumes import read_volume
from custom_networks.workflow.report.classification_report import (
    POLICY,
    classification_metrics,
    interval_text,
    intervals,
)
from tools.data.medmnist import read_names

GRID = 7
"""Blocks per axis."""
TREES = 500
TRAINED_ON = (("training",), ("training", "held_out"))
"""What a network trains on, and all that is for training."""
PACKAGES = ("scikit-learn", "numpy", "torch", "monai")


def block_means(images: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the means of patches over a grid of 7 x 7 x 7 blocks, channel by channel.

    Args:
        images: files of 3D patches.

    Returns:
        ``(channels * 343,)`` by file.

    Raises:
        ValueError: if a file cannot be read, is not 3D or not finite, or has other channels than the first one.
    """
    means: dict[str, np.ndarray] = {}
    channels = None
    for image in images:
        patch = read_volume(image)
        channels = channels or patch.shape[0]
        check_image(patch, image, channels)
        means[image] = F.adaptive_avg_pool3d(patch.as_tensor(), GRID).flatten().numpy()
    return means


def measure(
    training: tuple[np.ndarray, np.ndarray], evaluation: tuple[np.ndarray, np.ndarray], seed: int
) -> dict[str, dict[str, Any]]:
    """Train one forest and measure it.

    Args:
        training: features and classes to train on.
        evaluation: features and classes to measure on.
        seed: seed of the forest.

    Returns:
        Value and 95 % interval by metric.

    Cost:
        about 2 s per 1000 cases and seed, 1000 evaluations of the metrics.
    """
    forest = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed)
    probabilities = forest.fit(*training).predict_proba(evaluation[0])
    ends = intervals(probabilities, evaluation[1])
    metrics = classification_metrics(probabilities, evaluation[1])
    return {name: {"value": value, "interval": ends[name]} for name, value in metrics.items()}


def forest(
    dataset_dir: str,
    split: str = "validation",
    seeds: int = 3,
    fold: int = 0,
    label_names: str | Sequence[str] = "normal,hyperplasia",
    output: str | None = None,
) -> dict[str, Any]:
    """Measure the baseline that a patch classifier has to reach: random forests on the means of 7 x 7 x 7 blocks.

    500 trees with balanced classes and the seeds 0, 1, ..., trained once on the cases that a network trains on (the
    section training of the fold) and once on all cases of the split training. A forest is not measured on cases that
    it has seen: where ``split`` is the held-out fold, the second one is left out.

    Args:
        dataset_dir: folder with ``labels.csv``.
        split: section of the CSV file to measure on.
        seeds: number of seeds, at least 1.
        fold: held-out fold, 0 to 4.
        label_names: names of the classes in their order, comma separated; the second of two is the positive one.
        output: JSON file to write; none if not given.

    Raises:
        FileNotFoundError: if the CSV file or an image is missing.
        ValueError: if the CSV file, a patch or an argument is wrong.

    References:
        L. Breiman, "Random forests", Machine Learning 45 (2001), doi:10.1023/A:1010933404324.
    """
    if not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds must be an integer of at least 1, got {seeds}; use for example 3")
    if split == "training":
        raise ValueError("split training is what the forests are trained on; use validation, test or held_out")
    names = read_names(label_names)
    sections = {
        section: classification_data_list(dataset_dir, section, label_names=names, fold=fold)
        for section in ("training", "held_out", split)
    }
    means = block_means({str(case["image"]): None for cases in sections.values() for case in cases})

    def arrays(cases: list[dict[str, str | int]]) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([means[str(case["image"])] for case in cases]), np.array([case["label"] for case in cases])

    evaluation = arrays(sections[split])
    labels = evaluation[1]
    options = [f"--split={split}", f"--seeds={seeds}", f"--fold={fold}", f"--label_names={','.join(names)}"]
    report: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "tools", "forest", str(dataset_dir), *options]),
        "split": split,
        "fold": fold,
        "cases": len(labels),
        "cases_per_class": {name: int((labels == k).sum()) for k, name in enumerate(names)},
        "policy": POLICY,
        "forests": [],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    for trained_on in TRAINED_ON:
        # In the order of their paths, all training cases are the same forest whatever the fold
        cases = sorted((case for section in trained_on for case in sections[section]), key=lambda c: str(c["image"]))
        words = f"trained on {' and '.join(trained_on)}"
        if any(case in sections[split] for case in cases):
            print(f"{words}: left out, since {split} is part of it")
            continue
        print(f"{words}, {len(cases)} cases; measured on {split}, {len(labels)} cases")
        runs = []
        for seed in range(seeds):
            runs.append(measure(arrays(cases), evaluation, seed))
            cells = (f"{n} {m['value']:.4f} ({interval_text(m['interval'])})" for n, m in runs[-1].items())
            print(f"  seed {seed}: {', '.join(cells)}", flush=True)
        mean = {name: float(np.mean([run[name]["value"] for run in runs])) for name in runs[0]}
        print(f"  mean:   {', '.join(f'{name} {value:.4f}' for name, value in mean.items())}", flush=True)
        report["forests"].append({"trained_on": list(trained_on), "cases": len(cases), "seeds": runs, "mean": mean})
    if output is not None:
        write_text(Path(output), json.dumps(report, indent=2) + "\n")
        print(f"written: {output}")
    return report
