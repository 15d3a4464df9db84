"""Pictures of a segmentation over its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLOURS = ("tab:cyan", "tab:orange", "tab:green", "tab:pink", "tab:olive", "tab:purple")
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Panel:
    """One row of the picture.

    Args:
        title: text above the row, with its Dice.
        image: intensities ``(x, y, z)`` in RAS order.
        reference: label map of the same shape.
        prediction: label map of the same shape.
        spacing: voxel size in mm, one entry per axis.
    """

    title: str
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    spacing: Sequence[float]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Dice of two boolean masks; nan where both are empty.

    Example:
        >>> dice(np.array([True, True]), np.array([True, False])).__round__(3)
        0.667
    """
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else float("nan")


def save_overlay(panels: Sequence[Panel], class_names: Sequence[str], path: Path, title: str) -> None:
    """Draw three planes per case, the reference as solid and the prediction as dashed contours, and save a PNG.

    The planes go through the voxel of each axis that holds most of the reference.

    Args:
        panels: the cases, one row each.
        class_names: names of the labels 1, 2, ... (no background).
        path: PNG file to write.
        title: title of the picture.

    Raises:
        ValueError: if the arrays of a case differ in shape.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(11, 4.1 * len(panels) + 1.1), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    rows = figure.subfigures(len(panels), 1, squeeze=False)[:, 0]
    for panel, row in zip(panels, rows, strict=True):
        if not panel.image.shape == panel.reference.shape == panel.prediction.shape:
            raise ValueError(
                f"{panel.title}: image, reference and prediction must have one shape, got {panel.image.shape}, "
                f"{panel.reference.shape}, {panel.prediction.shape}; bring them to one grid"
            )
        row.suptitle(panel.title)
        foreground = panel.reference > 0
        low, high = np.percentile(panel.image, (1, 99))
        for axis, axes in enumerate(row.subplots(1, 3)):
            others = tuple(a for a in range(3) if a != axis)
            index = int(foreground.sum(axis=others).argmax())
            aspect = panel.spacing[others[1]] / panel.spacing[others[0]]
            axes.imshow(
                panel.image.take(index, axis).T, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect
            )
            for label in range(1, len(class_names) + 1):
                colour = COLOURS[(label - 1) % len(COLOURS)]
                for volume, style, width in ((panel.reference, "-", 2.2), (panel.prediction, "--", 1.6)):
                    mask = (volume.take(index, axis) == label).T
                    if mask.any():
                        axes.contour(mask, levels=[0.5], colors=[colour], linestyles=[style], linewidths=[width])
            axes.set_title(f"{PLANES[axis]}, slice {index}", fontsize=9)
            axes.set_axis_off()
    legend = []
    for i, name in enumerate(class_names):
        colour = COLOURS[i % len(COLOURS)]
        legend.append(Line2D([], [], color=colour, linestyle="-", label=f"{name}, reference"))
        legend.append(Line2D([], [], color=colour, linestyle="--", label=f"{name}, prediction"))
    figure.legend(handles=legend, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title, fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, format="png")
