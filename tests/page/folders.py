"""Folders of results as predict, an evaluation and a training leave them, small and made by hand."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np

NAMES = {"front": (1,), "back": (2, 3)}
SHAPE = (20, 24, 16)
SPACING = (1.0, 1.5, 2.0)
METRICS = "dice nsd iou voe rvd mean_surface_distance hd95".split()


def label(shift: int = 0) -> np.ndarray:
    """Return a label map: a box of 1, and behind it one of 2 and one of 3."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[4 + shift : 12 + shift, 12:18, 4:12] = 1
    mask[4:12, 6:12, 4:8] = 2
    mask[4:12, 6:12, 8:12] = 3
    return mask


def image(mask: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(100, 10, mask.shape)
    return (noise + 40 * (mask > 0)).astype(np.int16)


def save(file: Path, voxels: np.ndarray) -> Path:
    """Save a volume whose first axis runs from right to left."""
    file.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-SPACING[0], *SPACING[1:], 1.0])
    affine[:3, 3] = (30, -20, 10)
    nib.save(nib.Nifti1Image(voxels, affine), file)
    return file


def structure(name: str, mask: np.ndarray) -> dict:
    voxels = int(np.isin(mask, NAMES[name]).sum())
    return {
        "name": name,
        "values": list(NAMES[name]),
        "voxels": voxels,
        "volume_ml": voxels * float(np.prod(SPACING)) / 1000,
        "centre_mm": [0.0, 0.0, 0.0],
        "bounding_box": [[0, 1]] * 3,
        "pieces": 1,
        "largest_piece_share": 1.0 if voxels else None,
        "touches_border": False,
    }


def record(folder: Path, case: str, **changes) -> dict:
    """Write the image and the mask of a case, and return its record."""
    mask = label()
    save(folder / f"{case}_seg.nii.gz", mask)
    files = [str(save(folder.parent / "images" / f"{case}.nii.gz", image(mask)))]
    return {
        "format": 1,
        "case": case,
        "image": files,
        "series": None,
        "mask": f"{case}_seg.nii.gz",
        "grid": {"shape": list(SHAPE), "spacing": list(SPACING), "affine": np.eye(4).tolist()},
        "working_spacing": [1.0, 1.0, 1.0],
        "engine": "torch",
        "precision": "float32",
        "device": "cpu",
        "created": "2026-11-29T12:00:00+00:00",
        "bundles": [],
        "seconds": {"read": 0.1, "network": 0.2, "write": 0.1},
        "inputs": "0" * 64,
        "structures": [structure(name, mask) for name in NAMES],
        "warnings": [],
        **changes,
    }


def head_record(folder: Path, case: str, **changes) -> dict:
    """Write the image and the mask of a whole head, whose two boxes are a side each, and return its record."""
    of_crop = record(folder, case)
    front, back = of_crop["structures"]
    sides = [{**front, "name": "Left"}, {**back, "name": "Right"}]
    total = {**front, "name": "Total", "values": [1, 2, 3], "volume_ml": front["volume_ml"] + back["volume_ml"]}
    parts = [{**front, "name": "Left-front"}, {**back, "name": "Right-front"}]
    head = {"head_ml": 100.0, "places": ["Left", "Right"], "asymmetry_index": -12.3, "problems": []}
    return {**of_crop, "structures": [*parts, *sides, total], "head": head, **changes}


def write_prediction(folder: Path, *records: dict, known: bool = True) -> Path:
    """Write ``volumes.json``, with a ``training_data.json`` beside the weights if the volumes are known."""
    weights = folder.parent / "models" / "model.pt"
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    if known:
        volumes = {name: [0.5 + 0.05 * index for index in range(20)] for name in NAMES}
        (weights.parent / "training_data.json").write_text(json.dumps({"weights": sha256, "volumes_ml": volumes}))
    bundle = {"name": "b", "title": "Boxes in noise", "version": "0.1.0", "weights": str(weights), "sha256": sha256}
    document = {
        "format": 1,
        "bundles": [bundle],
        "label_names": ["background", *NAMES],
        "intended_use": "Research only, for boxes.",
        "images": list(records),
    }
    (folder / "volumes.json").write_text(json.dumps(document))
    return folder


def write_evaluation(folder: Path, cases: int = 4, masks: bool = True) -> Path:
    """Write ``metrics.csv`` and ``metrics.json``; the later a case, the worse it is, and the last has no back."""
    data, rows, files = folder.parent / "data", [], {}
    for number in range(cases):
        case, mask = f"case_{number}", label(number)
        reference = save(data / "labels" / f"{case}.nii.gz", label())
        files[case] = {
            "image": str(save(data / "images" / f"{case}.nii.gz", image(label()))),
            "label": str(reference),
        }
        if masks:
            save(folder / f"{case}_seg.nii.gz", mask)
        for name in NAMES:
            empty = name == "back" and number == cases - 1
            values = [float("nan")] * 7 if empty else [0.9 - 0.1 * number, 0.95, 0.8, 0.2, 0.1, 0.5, 1.0 + number]
            volumes = [0, 0] if empty else [1000, 1000 + 100 * number]
            rows.append([case, name, *values, *volumes])
    folder.mkdir(exist_ok=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["case", "class", *METRICS, "reference_volume", "prediction_volume"], *rows])
    summary = {
        "cases": cases,
        "policy": {"grid": "that of the image"},
        "surface_tolerance_mm": 1.5,
        "classes": {name: {} for name in NAMES},
        "values": {name: list(values) for name, values in NAMES.items()},
        "files": files,
    }
    (folder / "metrics.json").write_text(json.dumps(summary))
    return folder


def write_classification(folder: Path, labelled: bool = True) -> Path:
    """Write ``predictions.csv`` and, with labels, ``metrics.json``."""
    folder.mkdir(exist_ok=True)
    truth = ["label"] if labelled else []
    rows = [["a", "well", "well", 0.9, 0.1], ["b", "ill", "ill", 0.2, 0.8], ["c", "ill", "well", 0.6, 0.4]]
    kept = rows if labelled else [[case, *rest] for case, _, *rest in rows]
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["case", *truth, "prediction", "well", "ill"], *kept])
    if labelled:
        metrics = {"auc": {"value": 1.0, "interval": [0.5, 1.0]}, "brier": {"value": 0.3, "interval": None}}
        summary = {"cases": 3, "policy": {}, "metrics": metrics, "confusion": [[1, 0], [1, 1]]}
        (folder / "metrics.json").write_text(json.dumps(summary))
    return folder


def write_curve(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [
        "epoch,loss,learning_rate,seconds,validation_metric",
        "1,0.9,0.1,1.0,",
        "2,0.5,0.1,1.0,0.7",
        "3,0.4,0.1,1,0.6",
    ]
    (folder / "training_curve.csv").write_text("\n".join(lines) + "\n")
    return folder
