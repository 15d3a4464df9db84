"""Pictures of a segmentation, or of a map, over its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

COLOURS = ("tab:cyan", "tab:orange", "tab:green", "tab:pink", "tab:olive", "tab:purple")
PLANES = ("sagittal", "coronal", "axial")
ENDS = ("LR", "PA", "IS")


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


def show_plane(axes: Any, volume: np.ndarray, axis: int, index: int, spacing: Sequence[float], **arguments: Any) -> Any:
    """Draw one plane of a volume, its second axis upwards, and return matplotlib's image.

    Args:
        axes: where to draw.
        volume: ``(x, y, z)`` in RAS order.
        axis: axis that stands on the plane.
        index: voxel of that axis.
        spacing: voxel size in mm, one entry per axis.
        **arguments: passed to ``imshow``.
    """
    across, up = (a for a in range(3) if a != axis)
    aspect = spacing[up] / spacing[across]
    return axes.imshow(volume.take(index, axis).T, origin="lower", aspect=aspect, **arguments)


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
            show_plane(axes, panel.image, axis, index, panel.spacing, cmap="gray", vmin=low, vmax=high)
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


def save_map(
    image: nib.Nifti1Image, values: nib.Nifti1Image, voxel: Sequence[int], path: Path, title: str, label: str
) -> None:
    """Draw a map as a coloured layer over the three planes of its image through one voxel, and save a PNG.

    The planes stand in RAS order, at one scale, with a cross on the voxel; the colours run from the map's lowest to its
    highest number, and where the map is NaN the image stays bare.

    Args:
        image: the image.
        values: the map on the image's grid.
        voxel: voxel of the image.
        path: PNG file to write, in a folder that exists.
        title: title of the picture.
        label: what the numbers of the map are.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    # Clear where the map is low, so that the image stays visible.
    colours = colormaps["inferno"](np.linspace(0.25, 1, 256))
    colours[:, 3] = np.linspace(0, 0.75, 256)
    point = nib.affines.apply_affine(image.affine, voxel)
    image, values = nib.as_closest_canonical(image), nib.as_closest_canonical(values)
    spacing = [float(size) for size in image.header.get_zooms()]
    centre = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), point)).astype(int)
    grey, numbers = np.asarray(image.dataobj), np.ma.masked_invalid(np.asarray(values.dataobj))
    peak = nib.affines.apply_affine(values.affine, np.unravel_index(numbers.argmax(), numbers.shape))
    place = ", ".join(f"{letter} {mm:.0f}" for letter, mm in zip("RAS", peak, strict=True))
    low, high = np.percentile(grey, (1, 99))
    extent = np.array(grey.shape) * spacing
    in_plane = [[a for a in range(3) if a != axis] for axis in range(3)]
    widths = [extent[across] for across, _ in in_plane]

    height = 9.5 * max(extent[up] for _, up in in_plane) / sum(widths) + 0.9
    figure = Figure(figsize=(11, max(height, 3.0)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    planes = figure.subplots(1, 3, width_ratios=widths)
    layers = []
    for axis, axes in enumerate(planes):
        index, (across, up) = int(centre[axis]), in_plane[axis]
        show_plane(axes, grey, axis, index, spacing, cmap="gray", vmin=low, vmax=high)
        layers.append(
            show_plane(
                axes,
                numbers,
                axis,
                index,
                spacing,
                cmap=ListedColormap(colours),
                vmin=numbers.min(),
                vmax=numbers.max(),
                interpolation="nearest",
            )
        )
        axes.plot(centre[across], centre[up], "+", color="tab:cyan", markersize=12, markeredgewidth=1.6)
        left, right, bottom, top = *ENDS[across], *ENDS[up]
        for letter, x, y in ((left, 0.03, 0.5), (right, 0.97, 0.5), (bottom, 0.5, 0.03), (top, 0.5, 0.97)):
            middle = {"ha": "center", "va": "center", "transform": axes.transAxes}
            box = {"facecolor": "black", "alpha": 0.5, "pad": 1.5, "edgecolor": "none"}
            axes.text(x, y, letter, color="white", fontsize=8, bbox=box, **middle)
        axes.set_title(PLANES[axis], fontsize=9)
        axes.set_axis_off()
    bar = figure.colorbar(layers[0], ax=planes, fraction=0.03, pad=0.02)
    bar.ax.set_facecolor("0.4")  # the grey of an image
    bar.set_label(f"{label}\nlowest {numbers.min():.3g}, highest {numbers.max():.3g} at ({place}) mm", fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110, format="png")
