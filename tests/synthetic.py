"""A data set of a few tiny volumes, and the overrides with which a bundle learns it in seconds."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = sorted(path.parents[1] for path in ROOT.glob("bundles/*_segmentation/configs/train.json"))
LABEL_NAMES = ["background", "Small", "Large"]
SHAPE = (24, 28, 22)
CASES = 7
EPOCHS = 24  # of the training that later tests use
VALIDATION = ["case_00", "case_05"]  # fold 0: rank modulo five


def volume(seed: int, channels: int = 1, shape: Sequence[int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Return an image whose intensity tells the class, with a gradient along one axis, and its label."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    label = np.zeros(shape, np.uint8)
    for value, centre, radius in ((1, (0.3, 0.35, 0.4), 4.5), (2, (0.65, 0.6, 0.55), 6.0)):
        middle = np.array(centre) * shape + generator.uniform(-1, 1, 3)
        label[(((grid - middle) / radius) ** 2).sum(-1) < 1] = value
    images = [
        np.float32(2.0) * label + generator.normal(0, 0.2, shape) + 0.02 * grid[..., 0] + 0.3 * channel
        for channel in range(channels)
    ]
    image = images[0] if channels == 1 else np.stack(images, -1)
    return image.astype(np.float32), label


def write_nifti(array: np.ndarray, path: Path, affine: np.ndarray | None = None) -> Path:
    """Write an array with an affine (1 mm, RAS, shifted, if none is given)."""
    if affine is None:
        affine = np.array([[1.0, 0, 0, -7], [0, 1, 0, 5], [0, 0, 1, 11], [0, 0, 0, 1]])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def write_dataset(
    folder: Path, cases: int = CASES, channels: int = 1, spacing: Sequence[float] = (1, 1, 1), first: int = 0
) -> Path:
    """Write a data set in the layout of the Medical Segmentation Decathlon."""
    affine = np.diag([*spacing, 1.0])
    entries = []
    for number in range(first, first + cases):
        image, label = volume(number, channels)
        name = f"case_{number:02d}.nii.gz"
        write_nifti(image, folder / "imagesTr" / name, affine)
        write_nifti(label, folder / "labelsTr" / name, affine)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    (folder / "dataset.json").write_text(json.dumps({"training": entries}))
    return folder


def config(bundle: Path, name: str = "train") -> dict[str, Any]:
    """Read one config of a bundle."""
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


def tiny_network(bundle: Path) -> dict[str, Any]:
    """Return overrides that keep the kind of network and make it small."""
    features = config(bundle)["network_def"]["features"]
    return {"network_def#features": [8] + [16] * (len(features) - 1)}


def tiny_knobs(bundle: Path) -> dict[str, Any]:
    """Return the overrides that inference and training share."""
    return {
        "label_names": LABEL_NAMES,
        "in_channels": 1,
        "spacing": [1.0, 1.0, 1.0],
        "patch_size": [16, 16, 16],
        "amp": False,
        "device": "$torch.device('cpu')",
        **tiny_network(bundle),
    }


def tiny_training(bundle: Path, dataset: Path, output: Path, **overrides: Any) -> dict[str, Any]:
    """Return the overrides of a training that takes a few seconds."""
    return {
        **tiny_knobs(bundle),
        "dataset_dir": str(dataset),
        "output_dir": str(output),
        "ckpt_dir": str(output),
        "epochs": 2,
        "val_interval": 1,
        "batch_size": 2,
        "learning_rate": 0.03,
        "cache_rate": 0.0,
        **overrides,
    }


def paths(bundle: Path, names: str | Sequence[str]) -> list[str]:
    """Return the paths of configs."""
    return [str(bundle / "configs" / f"{name}.json") for name in ([names] if isinstance(names, str) else names)]


def run(bundle: Path, names: str | Sequence[str], overrides: Mapping[str, Any], **arguments: Any) -> None:
    """Run configs in this process as ``python -m monai.bundle run`` does."""
    monai.bundle.run(
        config_file=paths(bundle, names), bundle_root=str(bundle), logging_file=False, **arguments, **overrides
    )


def workflow(bundle: Path, names: str | Sequence[str], kind: str, overrides: Mapping[str, Any]) -> Any:
    """Return the initialised workflow of configs."""
    return monai.bundle.create_workflow(
        config_file=paths(bundle, names),
        workflow_type=kind,
        bundle_root=str(bundle),
        logging_file=False,
        **overrides,
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    return list(csv.DictReader(path.read_text().splitlines()))


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint."""
    checkpoint = torch.load(path, weights_only=True)
    return checkpoint.get("model", checkpoint)


def assert_equal_weights(one: Path, other: Path) -> None:
    """Compare the weights of two checkpoints bit by bit."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    assert not differing
