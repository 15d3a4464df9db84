"""Train, evaluate and apply the first bundle on embedded data, with the commands that a user would type."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np

from custom_networks.workflow.report.overlay import Panel, dice, save_overlay
from tools.data.datasets import EMBEDDED, embedded

REPOSITORY = Path(__file__).resolve().parents[1]
BUNDLE = Path("bundles/hippocampus_mr_attention_unet_segmentation")
PROFILE = "demo.json"


def paste(label: np.ndarray, shape: tuple[int, ...], offset: np.ndarray | None = None) -> np.ndarray:
    """Put a label map onto another grid of the same voxel size, without an image.

    Args:
        label: label map.
        shape: shape of the grid.
        offset: voxel of the grid on which the first voxel of ``label`` lands; None to match the centres.

    Example:
        >>> paste(np.array([1, 2, 3]), (5,)).tolist()
        [0, 1, 2, 3, 0]
    """
    if offset is None:
        offset = (np.array(shape) - label.shape) // 2
    starts = np.maximum(offset, 0)
    ends = np.minimum(offset + np.array(label.shape), shape)
    ends = np.maximum(starts, ends)
    result = np.zeros(shape, dtype=label.dtype)
    source = tuple(slice(int(a), int(b)) for a, b in zip(starts - offset, ends - offset, strict=True))
    result[tuple(slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True))] = label[source]
    return result


@dataclass(frozen=True)
class CopiedMask:
    """Label of the training case of the same template on the grid of a validation case.

    Args:
        centred: pasted centre on centre; a crop is cut around its own label, so that its centre gives the label away.
        positioned: pasted at its MNI coordinates.
    """

    centred: np.ndarray
    positioned: np.ndarray


def copied_mask(training: nib.Nifti1Image, validation: nib.Nifti1Image) -> CopiedMask:
    """Copy a training label onto the grid of a validation label.

    Args:
        training: label map of the training case.
        validation: label map of the validation case, with the same voxel size and axes.

    Raises:
        ValueError: if voxel size or axes differ.
    """
    if not np.allclose(training.affine[:3, :3], validation.affine[:3, :3]):
        raise ValueError("training and validation label differ in voxel size or axes; resample one of them")
    label, shape = np.asarray(training.dataobj), validation.shape
    origin = np.linalg.inv(validation.affine) @ training.affine[:, 3]
    return CopiedMask(paste(label, shape), paste(label, shape, np.rint(origin[:3]).astype(int)))


def training_twin(case: str, training: list[dict[str, str]]) -> dict[str, str]:
    """Return the training case of the same template as a validation case.

    Args:
        case: path of the validation case's label, ``..._<template>.nii.gz``.
        training: entries of ``dataset.json``.
    """
    template = case.rsplit("_", 1)[1]
    return next(entry for entry in training if entry["label"].rsplit("_", 1)[1] == template)


def run_bundle(step: str, configs: list[str], arguments: dict[str, str]) -> None:
    """Print one ``python -m monai.bundle run`` command and run it in the repository's root.

    Args:
        step: what the command does, for the message.
        configs: names of the config files, in order.
        arguments: command line arguments after ``--config_file`` and ``--bundle_root``.

    Raises:
        RuntimeError: if it ends with an exit code other than 0.
    """
    files = [str(BUNDLE / "configs" / name) for name in configs]
    command = ["-m", "monai.bundle", "run", "--config_file", files[0] if len(files) == 1 else str(files)]
    command += ["--bundle_root", str(BUNDLE)]
    for name, value in arguments.items():
        command += [f"--{name}", value]
    typed = " ".join(f'"{word}"' if word.startswith("[") else shlex.quote(word) for word in command)
    print(f"\n== {step}\n$ python {typed}\n", flush=True)
    code = subprocess.run([sys.executable, *command], cwd=REPOSITORY).returncode
    if code != 0:
        raise RuntimeError(f"{step} ended with exit code {code}; its own message stands above")


def from_repository(path: str) -> Path:
    """Return a path as the commands name it: relative to the repository where it lies inside, else absolute.

    Args:
        path: path relative to the current folder, or absolute.
    """
    absolute = Path(path).resolve()
    return absolute.relative_to(REPOSITORY) if absolute.is_relative_to(REPOSITORY) else absolute


def summary(rows: dict[str, tuple[float, float, float]]) -> str:
    """Return the table of Dice per class.

    Args:
        rows: class name to Dice of the network, of the centred and of the positioned copied mask.
    """
    width = max(len(name) for name in [*rows, "class"])
    lines = [f"{'class':<{width}}  network  copied training mask, centred  copied training mask, MNI position"]
    for name, (network, centred, positioned) in rows.items():
        lines.append(f"{name:<{width}}  {network:7.3f}  {centred:29.3f}  {positioned:34.3f}")
    return "\n".join(lines)


def compare(dataset: Path, output: Path) -> dict[str, tuple[float, float, float]]:
    """Set the network's Dice beside that of the copied training mask, and draw the picture.

    Args:
        dataset: the embedded data set.
        output: folder with ``evaluation/metrics.json`` and ``segmentations/``; ``overlay.png`` is written there.

    Returns:
        Class name to mean Dice of the network, of the centred and of the positioned copied mask.
    """
    description = json.loads((dataset / "dataset.json").read_text())
    metrics = json.loads((output / "evaluation" / "metrics.json").read_text())
    names = [name for value, name in sorted(description["labels"].items(), key=lambda i: int(i[0])) if value != "0"]
    copies: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    panels = []
    for case in description["validation"]:
        reference_image = nib.Nifti1Image.from_filename(dataset / case["label"])
        twin = training_twin(case["label"], description["training"])
        copied = copied_mask(nib.Nifti1Image.from_filename(dataset / twin["label"]), reference_image)
        reference = np.asarray(reference_image.dataobj)
        file = Path(case["image"]).name
        segmentation = output / "segmentations" / file.replace(".nii.gz", "_seg.nii.gz")
        prediction = np.asarray(nib.Nifti1Image.from_filename(segmentation).dataobj)
        scores = []
        for label, name in enumerate(names, start=1):
            mask = reference == label
            copies[name].append((dice(copied.centred == label, mask), dice(copied.positioned == label, mask)))
            scores.append(f"{name} {dice(prediction == label, mask):.3f}")
        panels.append(
            Panel(
                f"{file.removesuffix('.nii.gz')}: Dice {', '.join(scores)}",
                nib.Nifti1Image.from_filename(dataset / case["image"]).get_fdata(dtype=np.float32),
                reference,
                prediction,
                [float(size) for size in reference_image.header.get_zooms()],
            )
        )
    title = "Trained on left hippocampi, shown on right ones (mirrored) that it has not seen"
    save_overlay(panels, names, output / "overlay.png", title)
    rows = {}
    for name in names:
        centred, positioned = np.mean(copies[name], axis=0)
        rows[name] = (float(metrics["classes"][name]["dice"]["mean"]), float(centred), float(positioned))
    return rows


def demo(output_dir: str = "demo_output", epochs: int | None = None, dataset_dir: str = f"data/{EMBEDDED}") -> Path:
    """Train the hippocampus bundle on embedded MR for a few minutes, evaluate it, apply it and draw the result.

    Args:
        output_dir: folder for checkpoints, metrics, segmentations and ``overlay.png``.
        epochs: training epochs; those of the bundle's ``configs/profiles/demo.json`` if None.
        dataset_dir: where the embedded data set is, or is to be written.

    Raises:
        FileNotFoundError: if the bundle has not been rendered.
        ValueError: if ``epochs`` is not a positive integer.
        RuntimeError: if one of the commands fails.
        ModuleNotFoundError: if an extra is missing.

    Cost:
        three to five minutes on two CPU cores.
    """
    start = time.monotonic()
    profile = BUNDLE / "configs" / "profiles" / PROFILE
    if not (REPOSITORY / profile).is_file():
        raise FileNotFoundError(f"{profile} does not exist; run python -m tools bundles render")
    if epochs is not None and (not isinstance(epochs, int) or epochs < 1):
        raise ValueError(f"epochs must be an integer of at least 1, got {epochs}; leave it out for the profile's")
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    dataset = embedded(dataset_dir)
    data, output = from_repository(dataset_dir), from_repository(output_dir)
    common = {"args_file": str(profile), "dataset_dir": str(data)}
    checkpoints = str(output / "model")
    # whoever calls the demo again wants it again
    train = {**common, "output_dir": str(output / "training"), "ckpt_dir": checkpoints, "overwrite": "True"}
    if epochs is not None:
        train |= {"epochs": str(epochs), "val_interval": str(max(1, epochs // 8))}
    run_bundle("training on the left hippocampi", ["train.json"], train)
    run_bundle(
        "evaluation on the mirrored right ones",
        ["train.json", "evaluate.json"],
        {**common, "output_dir": str(output / "evaluation"), "ckpt_dir": checkpoints},
    )
    run_bundle(
        "inference on the mirrored right ones",
        ["inference.json"],
        {
            "dataset_dir": str(data / "imagesTs"),
            "output_dir": str(output / "segmentations"),
            "ckpt_dir": checkpoints,
        },
    )
    rows = compare(dataset, Path(output_dir))
    print(f"\nMean Dice on the mirrored right hippocampi:\n\n{summary(rows)}\n")
    print("A copied mask is the training label of the same template laid on the crop; it never looks at the image.")
    print("The network's epoch was chosen on these same cases, so its Dice is a little optimistic.")
    print(f"metrics: {Path(output_dir) / 'evaluation' / 'metrics.csv'}")
    print(f"picture: {Path(output_dir) / 'overlay.png'}")
    print(f"{time.monotonic() - start:.0f} s in all")
    return Path(output_dir)
