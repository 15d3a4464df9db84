"""From pairs of label maps to the rows of an evaluation, one case in memory at a time."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from tqdm import tqdm

from custom_networks.evaluate.classes import Classes
from custom_networks.evaluate.predictions import Pair
from custom_networks.workflow.data.formats.grid import Grid, farthest_apart
from custom_networks.workflow.data.label_checks import channel_problems
from custom_networks.workflow.data.volumes import AFFINE_TOLERANCE, read_grid, read_volume
from custom_networks.workflow.report.segmentation_report import SegmentationReport, default_tolerance

Masks = Iterator[tuple[Tensor, Tensor]]


def check_grids(pairs: Sequence[Pair]) -> list[Grid]:
    """Refuse predictions that do not lie on the grids of their labels, by the headers alone.

    Args:
        pairs: cases and predictions.

    Returns:
        The grids of the labels.

    Raises:
        ValueError: if one does not, or has several channels, or cannot be read.
    """
    grids = []
    for pair in pairs:
        label, prediction = read_grid(pair.case.label), read_grid(pair.prediction.file)
        for path, grid in ((pair.case.label, label), (pair.prediction.file, prediction)):
            if problems := channel_problems(grid):
                raise ValueError(f"{path} {problems[0]}")
        if wrong := _other_grid(prediction, label, pair.case.label):
            raise ValueError(f"{pair.prediction.file} {wrong}")
        grids.append(label)
    return grids


def _other_grid(prediction: Grid, label: Grid, path: Path) -> str | None:
    what = "bring it to the grid of the label with nearest neighbours"
    if prediction.shape != label.shape:
        return f"has shape {prediction.shape} but its label {path} {label.shape}; {what}"
    apart = farthest_apart(prediction.affine, label.affine, label.shape)
    if apart <= AFFINE_TOLERANCE:  # not so for NaN
        return None
    return f"has another affine than its label {path}, by up to {apart:.3g} mm; {what} or copy the right header"


def tolerance_of(grids: Sequence[Grid]) -> float:
    """Return the tolerance of the normalised surface Dice where nothing but labels is given.

    It is the middle one of the sides of a voxel, the median over the labels.

    Args:
        grids: of the labels.
    """
    # headers hold 0.7 as 0.699999988
    return float(f"{median(default_tolerance(spacing_of(grid)) for grid in grids):.6g}")


def spacing_of(grid: Grid) -> list[float]:
    """Return the size of a voxel in mm, one entry per axis.

    Args:
        grid: the grid.
    """
    sizes = torch.as_tensor(grid.affine)[:3, :3].norm(dim=0)
    return [float(size) for size in sizes]


def values_in(label: Path) -> set[int]:
    """Return the values that a label map holds.

    Args:
        label: its file.

    Raises:
        ValueError: if it cannot be read, or one is no integer.
    """
    return set(torch.unique(read_volume(label, labels=True).as_tensor()).tolist())


def check_label(label: Path, held: Collection[int], classes: Classes) -> None:
    """Refuse a label that holds a value of no class; with regions such a value is background.

    Args:
        label: its file.
        held: its values.
        classes: the classes.

    Raises:
        ValueError: if it does.
    """
    if classes.regions is None and (wrong := classes.unknown(set(held) - {classes.ignore_value})):
        raise ValueError(f"{label} {wrong}")


def measure(pairs: Sequence[Pair], classes: Classes, tolerance: float, out: Path) -> SegmentationReport:
    """Compare predictions with labels and write ``metrics.csv`` and ``metrics.json``; nothing if anything is wrong.

    Args:
        pairs: cases and predictions, which lie on the grids of their labels.
        classes: the classes.
        tolerance: that of the normalised surface Dice, in mm.
        out: folder for the two files.

    Returns:
        The report, with its rows.

    Raises:
        ValueError: if a label map holds a value of no class, or cannot be read.

    Cost:
        Two label maps at a time, and two masks of each class after the other.
    """
    names = classes.label_names
    report = SegmentationReport(out, names, classes.label_values, classes.regions, tolerance=tolerance)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)  # of a call by MONAI itself
        for pair in tqdm(pairs, desc="evaluate", unit="case", disable=None):
            label, prediction = (read_volume(file, labels=True) for file in (pair.case.label, pair.prediction.file))
            spacing = [float(size) for size in label.affine[:3, :3].norm(dim=0)]
            masks = _masks(pair, label.as_tensor()[0], prediction.as_tensor()[0], classes, report.values)
            report.measure(pair.case.name, masks, spacing, _files(pair))
    report.write(report.rows)
    return report


def _masks(pair: Pair, label: Tensor, prediction: Tensor, classes: Classes, values: Sequence[Sequence[int]]) -> Masks:
    """Yield prediction and reference of every class but the background."""
    check_label(pair.case.label, torch.unique(label).tolist(), classes)
    if wrong := classes.unknown(torch.unique(prediction).tolist()):
        raise ValueError(f"{pair.prediction.file} {wrong}")
    labelled = None if classes.ignore_value is None else label != classes.ignore_value
    for own in values:
        masks = [torch.isin(volume, torch.tensor(own)) for volume in (prediction, label)]
        if labelled is not None:
            masks = [mask & labelled for mask in masks]
        yield masks[0], masks[1]


def _files(pair: Pair) -> dict[str, str | None]:
    """Return where image, label and prediction are, for whoever draws them."""
    image = str(pair.case.images[0].absolute()) if pair.case.images else next(iter(pair.prediction.images), None)
    files = {"label": pair.case.label, "prediction": pair.prediction.file}
    return {"image": image, **{name: str(path.absolute()) for name, path in files.items()}}
