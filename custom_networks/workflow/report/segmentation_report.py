"""Segmentation metrics per case and per class, with a stated policy for empty and missing classes."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from torch import Tensor

from custom_networks.files import write_text
from custom_networks.workflow.infer.masks import check_replaceable, write_mask
from custom_networks.workflow.report.case_report import CaseReport
from custom_networks.workflow.report.statistics import BEST, TOLERANCE
from custom_networks.workflow.transforms.class_labels import LabelValues, class_values, label_dtype
from custom_networks.workflow.transforms.regions import Regions, region_values

logger = logging.getLogger(__name__)

METRICS = tuple(BEST)
COLUMNS = ("case", "class", *METRICS, "reference_volume", "prediction_volume")
"""Those of ``metrics.csv``."""
ROUNDING = 1e-3
"""Share of the tolerance by which a distance may exceed it: headers round the size of a voxel."""
POLICY = {
    "grid": "all metrics on the grid of the original image; distances in mm, volumes in mm3",
    "voxels without a label": "background in reference and prediction, in neither volume; where they cut a structure, "
    "the cut is a surface of both",
    "empty in reference and prediction": "no value (nan), the case is not averaged for that class",
    "nsd": f"share of the surface voxels of both that lie within the tolerance, {TOLERANCE}, of the other surface",
    "empty in the prediction only": "dice 0, nsd 0, iou 0, voe 1, rvd -1, distances = diagonal of the image",
    "empty in the reference only": "dice 0, nsd 0, iou 0, voe 1, rvd no value, distances = diagonal of the image",
}


def default_tolerance(spacing: Sequence[float]) -> float:
    """Return the tolerance of the normalised surface Dice where none is given: the middle one of a voxel's sides.

    Args:
        spacing: size of a voxel in mm, three numbers.

    Example:
        >>> default_tolerance((1.5, 1.4, 10.0))
        1.5
    """
    return float(sorted(spacing)[1])


def segmentation_metrics(
    prediction: Tensor, reference: Tensor, spacing: Sequence[float], tolerance: float
) -> dict[str, float]:
    r"""Compare two binary masks.

    With P and R the sets of voxels of prediction and reference,

    .. math:: \mathrm{dice} = \frac{2|P \cap R|}{|P| + |R|}, \quad \mathrm{iou} = \frac{|P \cap R|}{|P \cup R|}, \quad
              \mathrm{voe} = 1 - \mathrm{iou}, \quad \mathrm{rvd} = \frac{|P| - |R|}{|R|},

    A surface voxel is a voxel of the mask with a face neighbour outside the mask or the image. From each surface voxel
    of either mask the distance to the nearest surface voxel of the other is taken: the mean surface distance is the
    mean of all of them in one pool (not of the two means, so the larger surface weighs more), hd95 the larger of the
    two 95th percentiles (linearly interpolated), and the normalised surface Dice, nsd, the share of all of them that
    are at most the tolerance (or longer by a thousandth of it, which is rounding). ``POLICY`` says what holds for empty
    masks.

    Args:
        prediction: boolean mask ``(*spatial)``.
        reference: boolean mask ``(*spatial)``.
        spacing: size of a voxel in mm, one entry per axis.
        tolerance: distance in mm between two surfaces that counts as none in the nsd.

    Returns:
        The metrics, and the two volumes in mm3.

    Cost:
        Two erosions of the joint bounding box and, per metric, two nearest-neighbour searches over the surfaces.

    Example:
        >>> mask = torch.zeros(4, 4, 4, dtype=torch.bool)
        >>> mask[1:3, 1:3, 1:3] = True
        >>> segmentation_metrics(mask, mask, (1, 1, 1), tolerance=1)["dice"]
        1.0

    References:
        L. Maier-Hein, A. Reinke et al., "Metrics reloaded: recommendations for image analysis validation", Nature
        Methods 21 (2024), arXiv 2206.01653. S. Nikolov et al., "Clinically applicable segmentation of head and neck
        anatomy for radiotherapy: deep learning algorithm development and validation study", Journal of Medical
        Internet Research 23 (2021), arXiv 1809.04430 (nsd, there the surface Dice).
    """
    voxel = math.prod(spacing)
    p, r = int(prediction.sum()), int(reference.sum())
    both = int((prediction & reference).sum())
    result = {"reference_volume": r * voxel, "prediction_volume": p * voxel}
    if p + r == 0:
        return {**dict.fromkeys(METRICS, math.nan), **result}
    iou = both / (p + r - both)
    result |= {"dice": 2 * both / (p + r), "iou": iou, "voe": 1 - iou, "rvd": (p - r) / r if r else math.nan}
    if p == 0 or r == 0:
        diagonal = math.dist([0] * len(spacing), [n * s for n, s in zip(prediction.shape, spacing, strict=True)])
        return result | {"nsd": 0.0, "mean_surface_distance": diagonal, "hd95": diagonal}
    pair = (prediction[None, None], reference[None, None])
    options: dict[str, Any] = {"include_background": True, "spacing": [float(size) for size in spacing]}
    surface = compute_average_surface_distance(*pair, symmetric=True, **options)
    hausdorff = compute_hausdorff_distance(*pair, percentile=95, **options)
    within = compute_surface_dice(*pair, class_thresholds=[tolerance * (1 + ROUNDING)], **options)
    return result | {"nsd": float(within), "mean_surface_distance": float(surface), "hd95": float(hausdorff)}


def summarise(rows: Sequence[dict[str, Any]], label_names: Sequence[str]) -> dict[str, Any]:
    """Average the metrics of all cases per class, and the class means over the classes.

    Args:
        rows: one dictionary per case and class.
        label_names: names of the classes, background first.

    Returns:
        ``{"cases", "policy", "classes": {name: {metric: {"mean", "std", "n"}}}, "mean": {metric: value}}``, where n is
        the number of cases averaged and std the population standard deviation over them; ``None`` where n is 0.
    """
    classes: dict[str, dict[str, Any]] = {}
    for name in label_names[1:]:
        classes[name] = {}
        for metric in METRICS:
            values = [row[metric] for row in rows if row["class"] == name and not math.isnan(row[metric])]
            mean, std = (fmean(values), pstdev(values)) if values else (None, None)
            classes[name][metric] = {"mean": mean, "std": std, "n": len(values)}
    means = {}
    for metric in METRICS:
        of_classes = [entry[metric]["mean"] for entry in classes.values() if entry[metric]["mean"] is not None]
        means[metric] = fmean(of_classes) if of_classes else None
    return {"cases": len({row["case"] for row in rows}), "policy": POLICY, "classes": classes, "mean": means}


class SegmentationReport(CaseReport):
    """Write ``metrics.csv`` (one row per case and class) and ``metrics.json`` (the summary) of an evaluation.

    The evaluator's postprocessed "pred" and "label" must be one-hot on the original grid. For whoever draws them, the
    summary names the image and the label of every case, under "files", and the values of every class in label files
    and masks, under "values".

    Args:
        output_dir: folder to write to.
        label_names: names of the classes, background first.
        label_values: see :func:`custom_networks.workflow.transforms.class_labels.class_values`.
        regions: see the same.
        save_masks: whether to write ``<case>_seg.nii.gz``, the predictions on the grid of their images.
        tolerance: that of the normalised surface Dice, in mm.

    Raises:
        ValueError: if the classes cannot be used, or the tolerance is none.
    """

    def __init__(
        self,
        output_dir: str | Path,
        label_names: Sequence[str],
        label_values: LabelValues = None,
        regions: Regions = None,
        save_masks: bool = False,
        *,
        tolerance: float,
    ) -> None:
        super().__init__(output_dir, label_names)
        if not 0 < tolerance < math.inf:
            raise ValueError(f"the tolerance must be a positive number of mm, got {tolerance}; set surface_tolerance")
        self.tolerance = float(tolerance)
        self.written = [values[0] for values in class_values(label_names, label_values, regions)]
        values = class_values(label_names, label_values, regions)[1:]
        self.values = values if regions is None else region_values(label_names, regions)
        self.save_masks = save_masks
        self.dtype = label_dtype(label_names, label_values, regions)

    def add(self, engine: Engine) -> None:
        """Measure the cases of one iteration.

        Args:
            engine: the evaluator.
        """
        state: Any = engine.state
        for entry, output in zip(state.batch, state.output, strict=True):
            label = output["label"]
            spacing = [float(s) for s in label.affine[:3, :3].norm(dim=0)]
            prediction, reference = (torch.as_tensor(output[key]).bool().cpu() for key in ("pred", "label"))
            files = {key: _file(entry.get(key)) for key in ("image", "label")}
            if self.save_masks:
                self._save(prediction.numpy(), label.affine.numpy(), entry["case"], files["image"])
            self.measure(entry["case"], zip(prediction[1:], reference[1:], strict=True), spacing, files)

    def measure(
        self,
        case: str,
        masks: Iterable[tuple[Tensor, Tensor]],
        spacing: Sequence[float],
        files: Mapping[str, str | None],
    ) -> None:
        """Measure a case, which an evaluator gives, or whoever has masks.

        Args:
            case: its name.
            masks: prediction and reference of every class but the background, boolean ``(*spatial)``.
            spacing: size of a voxel in mm, one entry per axis.
            files: where its "image" and "label" are, as far as that is known.
        """
        for name, (prediction, reference) in zip(self.label_names[1:], masks, strict=True):
            metrics = segmentation_metrics(prediction, reference, spacing, self.tolerance)
            self.rows.append({"case": case, "class": name, "files": dict(files), **metrics})

    def _save(self, prediction: np.ndarray, affine: np.ndarray, case: str, image: str | None) -> None:
        """Write a prediction ``(K, *S)`` as a label map; of nested regions the inner one, which comes later, counts."""
        target = self.output_dir / f"{case}_seg.nii.gz"
        check_replaceable(target)
        voxels = np.full(prediction.shape[1:], self.written[0], self.dtype)
        for inside, value in zip(prediction[1:], self.written[1:], strict=True):
            voxels[inside] = value
        write_mask(target, voxels, affine.astype(float), Path(image or ""))

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Write the two files.

        Args:
            rows: one row per case and class.
        """
        order = {name: index for index, name in enumerate(self.label_names)}
        rows = sorted(rows, key=lambda row: (row["case"], order[row["class"]]))
        cells = [[row[c] if isinstance(row[c], str) else f"{row[c]:.6g}" for c in COLUMNS] for row in rows]
        summary = {**summarise(rows, self.label_names), TOLERANCE: self.tolerance}
        summary["values"] = dict(zip(self.label_names[1:], self.values, strict=True))
        summary["files"] = {row["case"]: row["files"] for row in rows if all(row["files"].values())}
        path = self.write_table("metrics.csv", [COLUMNS, *cells])
        write_text(self.output_dir / "metrics.json", json.dumps(summary, indent=2) + "\n")
        for name, metrics in summary["classes"].items():
            values = ", ".join(
                f"{metric} {value['mean']:.4f} (n={value['n']})" for metric, value in metrics.items() if value["n"]
            )
            logger.info("%s: %s", name, values or "no case")
        logger.info("wrote %s and metrics.json, %d cases", path, summary["cases"])


def _file(volume: Any) -> str | None:
    """Return where an image or a label was read from, the first file of several, if it says so."""
    name = getattr(volume, "meta", {}).get("filename_or_obj")
    return None if name is None else str(Path(name).absolute())
