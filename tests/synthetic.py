"""Data sets of a few tiny volumes or patches, and the overrides with which a bundle learns them in seconds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

ROOT = Path(__file__).resolve().parents[1]


def _bundles(task: str) -> list[Path]:
    return sorted(path.parents[1] for path in ROOT.glob(f"bundles/*_{task}/configs/train.json"))


SEGMENTATION, CLASSIFICATION = _bundles("segmentation"), _bundles("classification")
BUNDLES = [*SEGMENTATION, *CLASSIFICATION]
# The bundles of a recipe differ in networks and knobs alone: where neither is looked at, one stands for all of them.
ONE_PER_RECIPE = [SEGMENTATION[0], CLASSIFICATION[0]]
SHAPE = (24, 28, 22)
CASES = 7
PATCH_SHAPE = (19, 20, 18)
IMAGES = "imagesTr"
EPOCHS = 36  # of the training that later tests use


@dataclass(frozen=True, eq=False)
class Kind:
    """What tiny runs of one kind of bundle need and write.

    Args:
        label_names: the classes of the data set.
        write: writes the data set to a folder and returns it.
        image: returns the image of a number.
        network: overrides that make the network small.
        training: overrides with which it learns quickly.
        training_cases: number of cases in the four folds that train.
        held_out: the cases of fold 0.
        evaluated: the cases of the evaluation, as its report names them.
        reports: the files of the evaluation.
        results: the files of the inference of the images of the data set.
    """

    label_names: list[str]
    write: Callable[..., Path]
    image: Callable[[int], np.ndarray]
    network: Callable[[Path], dict[str, Any]]
    training: dict[str, Any]
    training_cases: int
    held_out: list[str]
    evaluated: list[str]
    reports: list[str]
    results: list[str]


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


def write_dataset(folder: Path, cases: int = CASES, channels: int = 1, spacing: Sequence[float] = (1, 1, 1)) -> Path:
    """Write a data set in the layout of the Medical Segmentation Decathlon."""
    affine = np.diag([*spacing, 1.0])
    entries = []
    for number in range(cases):
        image, label = volume(number, channels)
        name = f"case_{number:02d}.nii.gz"
        write_nifti(image, folder / IMAGES / name, affine)
        write_nifti(label, folder / "labelsTr" / name, affine)
        entries.append({"image": f"./{IMAGES}/{name}", "label": f"./labelsTr/{name}"})
    (folder / "dataset.json").write_text(json.dumps({"training": entries}))
    return folder


def patch(number: int, channels: int = 1, label: int = 0, shape: Sequence[int] = PATCH_SHAPE) -> np.ndarray:
    """Return a blob of intensity 200 somewhere near the middle, the larger the higher the class, with a gradient."""
    generator = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    middle = np.array(shape) / 2 + generator.uniform(-1, 1, 3)
    blob = ((grid - middle) ** 2).sum(-1) < (2.5 + 2 * label) ** 2
    images = [
        160 * blob + generator.normal(20, 10, shape) + 2 * grid[..., 0] + grid[..., 1] - 5 * channel
        for channel in range(channels)
    ]
    return (images[0] if channels == 1 else np.stack(images, -1)).astype(np.float32)


def write_patches(
    folder: Path,
    channels: int = 1,
    spacing: Sequence[float] = (1, 1, 1),
    label_names: Sequence[str] = ("small", "large"),
    shape: Sequence[int] = PATCH_SHAPE,
) -> Path:
    """Write ten patches of each class for training and four for validation, with their labels.csv."""
    lines = ["image,label,split"]
    for split, count in (("training", 10), ("validation", 4)):
        for _ in range(count):
            for label, name in enumerate(label_names):
                number = len(lines) - 1
                file = f"{IMAGES}/case_{number:02d}.nii.gz"
                write_nifti(patch(number, channels, label, shape), folder / file, np.diag([*spacing, 1.0]))
                lines.append(f"{file},{name},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_nrrd(nifti: Path, path: Path) -> Path:
    """Write the image of a NIfTI file as NRRD."""
    image = nib.load(nifti)
    to_lps = np.diag([-1.0, -1, 1])
    header = {
        "space": "left-posterior-superior",
        "space directions": (to_lps @ image.affine[:3, :3]).T,
        "space origin": to_lps @ image.affine[:3, 3],
        "kinds": ["domain"] * 3,
    }
    nrrd.write(str(path), np.asarray(image.dataobj), header)
    return path


def write_oriented(nifti: Path, codes: str, path: Path) -> Path:
    """Write the image of a NIfTI file stored along other axes."""
    image = nib.load(nifti)
    stored = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    assert "".join(nib.aff2axcodes(stored.affine)) == codes
    return write_nifti(np.asarray(stored.dataobj), path, stored.affine)


def change(path: Path, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Rewrite an image through a function of its array; a result of another shape keeps the affine."""
    image = nib.load(path)
    write_nifti(function(np.asarray(image.dataobj)), path, image.affine)


def each(bundles: Sequence[Any]) -> pytest.MarkDecorator:
    """Return the mark that runs a test for these bundles only."""
    return pytest.mark.parametrize("bundle", bundles, ids=lambda path: path.name)


# as `each`, for the fixture `bundle` of processes: what the recipe does, whatever the network
of_one_per_recipe = pytest.mark.parametrize(
    "bundle", ONE_PER_RECIPE, indirect=True, ids=lambda path: path.name, scope="session"
)


def each_slowly(bundles: Sequence[Path], quick: Sequence[Path] | None = None) -> pytest.MarkDecorator:
    """Return the mark that runs a test for the first bundle, or these, and for the others among the slow tests."""
    at_once = bundles[:1] if quick is None else quick
    return each([one if one in at_once else pytest.param(one, marks=pytest.mark.slow) for one in bundles])


def config(bundle: Path, name: str = "train") -> dict[str, Any]:
    """Read one config of a bundle."""
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


def _narrow_stages(bundle: Path) -> dict[str, Any]:
    network = config(bundle)["network_def"]
    if network["_target_"].endswith("Primus"):  # the tokens are all that its decoder knows, so they are not narrow
        return {"network_def#features": [8, 16, 32, 32, 24 * network["num_heads"]]}
    return {"network_def#features": [8] + [16] * (len(network["features"]) - 1)}


def _small_kernels(_: Path) -> dict[str, Any]:
    return {"network_def#features": [4, 8], "network_def#kernel_size": [3, 3]}  # takes 16 voxels per axis


KINDS = {
    "segmentation": Kind(
        label_names=["background", "Small", "Large"],
        write=write_dataset,
        image=lambda number: volume(number)[0],
        network=_narrow_stages,
        training={"batch_size": 2, "learning_rate": 0.03},
        training_cases=5,
        held_out=["case_00", "case_05"],  # rank modulo five
        evaluated=["case_00", "case_05"],
        reports=["metrics.csv", "metrics.json"],
        results=[f"case_{number:02d}_seg.nii.gz" for number in range(CASES)],
    ),
    "classification": Kind(
        label_names=["small", "large"],
        write=write_patches,
        image=patch,
        network=_small_kernels,
        training={"batch_size": 4, "learning_rate": 0.01},
        training_cases=16,
        held_out=[f"{IMAGES}/case_{number:02d}.nii.gz" for number in (0, 1, 10, 11)],  # rank in the class modulo five
        evaluated=[f"{IMAGES}/case_{number:02d}.nii.gz" for number in range(20, 28)],
        reports=["metrics.json", "predictions.csv"],
        results=["predictions.csv"],
    ),
}


def task(bundle: Path) -> str:
    """Return the last word of a bundle's name."""
    return bundle.name.rpartition("_")[2]


def kind(bundle: Path) -> Kind:
    """Return what tiny runs of a bundle need and write."""
    return KINDS[task(bundle)]


def tiny_network(bundle: Path) -> dict[str, Any]:
    """Return overrides that keep the kind of network and make it small."""
    return kind(bundle).network(bundle)


def tiny_knobs(bundle: Path) -> dict[str, Any]:
    """Return the overrides that inference and training share."""
    return {
        "label_names": kind(bundle).label_names,
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
        "cache_rate": 0.0,
        **kind(bundle).training,
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
