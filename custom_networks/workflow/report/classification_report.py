"""Classification metrics with bootstrap intervals, and one row of probabilities per case."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.metrics import compute_average_precision, compute_roc_auc
from scipy.stats import bootstrap

from custom_networks.files import write_text
from custom_networks.workflow.report.case_report import CaseReport

logger = logging.getLogger(__name__)

POLICY = {
    "prediction": "the class of the highest probability",
    "one class against the rest": "auc, average_precision, sensitivity and specificity; of two classes, the second is "
    "the positive one",
    "interval": "95 %, percentile bootstrap over the cases, resampled within each class",
}
RESAMPLES = 1000


def classification_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    r"""Measure predicted probabilities against classes.

    With N cases, K classes, p the probabilities, y the one-hot classes, and the prediction :math:`\arg\max_k p_{nk}`:

    .. math:: \mathrm{brier} = \frac1N \sum_{n,k} (p_{nk} - y_{nk})^2, \qquad
              \mathrm{balanced\ accuracy} = \frac1K \sum_k \mathrm{sensitivity}_k

    For two classes, ``auc`` (area under the ROC curve), ``average_precision``, ``sensitivity`` and ``specificity`` are
    those of the second class; for more, each is the mean over the classes, one against the rest.

    Args:
        probabilities: ``(N, K)``, rows that sum to one.
        labels: ``(N,)`` class indices; every class occurs.

    Returns:
        The metrics by name.

    Example:
        >>> classification_metrics(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))["auc"]
        1.0

    References:
        G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950).
    """
    classes = probabilities.shape[1]
    one_hot = np.eye(classes)[labels]
    predicted = np.eye(classes)[probabilities.argmax(axis=1)]
    sensitivity = (predicted * one_hot).sum(axis=0) / one_hot.sum(axis=0)
    specificity = ((1 - predicted) * (1 - one_hot)).sum(axis=0) / (1 - one_hot).sum(axis=0)
    chosen = [1] if classes == 2 else list(range(classes))

    def area(function: Callable[..., Any]) -> float:
        pairs = [(torch.from_numpy(probabilities[:, k].copy()), torch.from_numpy(one_hot[:, k].copy())) for k in chosen]
        return float(np.mean([function(*pair) for pair in pairs]))

    return {
        "auc": area(compute_roc_auc),
        "average_precision": area(compute_average_precision),
        "balanced_accuracy": float(sensitivity.mean()),
        "sensitivity": float(sensitivity[chosen].mean()),
        "specificity": float(specificity[chosen].mean()),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
    }


def intervals(probabilities: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, tuple[float, float] | None]:
    """Return 95 % bootstrap intervals of ``classification_metrics``, resampling the cases within each class.

    Args:
        probabilities: ``(N, K)``.
        labels: ``(N,)`` class indices; every class occurs.
        seed: seed of the resampling.

    Returns:
        Lower and upper end by metric; ``None`` where a class has a single case, which cannot be resampled.

    Cost:
        1000 evaluations of all metrics.

    References:
        B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentile interval).
    """
    members = tuple(np.flatnonzero(labels == k) for k in range(probabilities.shape[1]))
    names = list(classification_metrics(probabilities, labels))

    def statistic(*resampled: np.ndarray) -> np.ndarray:
        cases = np.concatenate(resampled)
        return np.array(list(classification_metrics(probabilities[cases], labels[cases]).values()))

    if min(map(len, members)) < 2:
        return dict.fromkeys(names)
    result = bootstrap(
        members,
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        random_state=np.random.default_rng(seed),  # as SciPy before 1.15 calls it, too
    )
    low, high = result.confidence_interval
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def interval_text(interval: Sequence[float] | None) -> str:
    """Return an interval in words.

    Args:
        interval: lower and upper end, or ``None``.

    Example:
        >>> interval_text((0.7, 0.8125))
        '0.700 to 0.812'
    """
    return "unknown" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


class ClassificationReport(CaseReport):
    """Write ``predictions.csv`` (probabilities per case) and ``metrics.json`` of an evaluation.

    The evaluator's postprocessed "pred" must hold the probabilities ``(K,)`` of a case and its "label" the class as
    ``(K,)`` zeros and a one. Without labels (inference) only the predictions are written.

    Args:
        output_dir: folder to write to.
        label_names: names of the classes, in the order of the network's outputs.
    """

    def add(self, engine: Engine) -> None:
        """Note the probabilities of one iteration.

        Args:
            engine: the evaluator.
        """
        state: Any = engine.state
        for case, output in zip(state.batch, state.output, strict=True):
            row = {"case": case["case"]}
            if output.get("label") is not None:
                row["label"] = int(torch.as_tensor(output["label"]).argmax())
            self.rows.append({**row, "probabilities": [float(p) for p in output["pred"]]})

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Write the files.

        Args:
            rows: one row per case.
        """
        rows = sorted(rows, key=lambda row: str(row["case"]))
        labelled = all("label" in row for row in rows)
        lines: list[list[str]] = [["case", *(["label"] if labelled else []), "prediction", *self.label_names]]
        for row in rows:
            label = [self.label_names[row["label"]]] if labelled else []
            best = self.label_names[int(np.argmax(row["probabilities"]))]
            lines.append([row["case"], *label, best, *(f"{p:.6f}" for p in row["probabilities"])])
        path = self.write_table("predictions.csv", lines)
        logger.info("wrote %s, %d cases", path, len(rows))
        if labelled:
            self._write_metrics(rows)

    def _write_metrics(self, rows: Sequence[dict[str, Any]]) -> None:
        probabilities = np.array([row["probabilities"] for row in rows])
        labels = np.array([row["label"] for row in rows])
        classes = range(len(self.label_names))
        absent = [self.label_names[k] for k in classes if not (labels == k).any()]
        if absent:
            raise ValueError(f"no case of the class {absent[0]!r} was evaluated; its metrics are not defined")
        metrics = classification_metrics(probabilities, labels)
        ends = intervals(probabilities, labels)
        predicted = probabilities.argmax(axis=1)
        summary = {
            "cases": len(rows),
            "cases_per_class": {name: int((labels == k).sum()) for k, name in enumerate(self.label_names)},
            "policy": POLICY,
            "metrics": {name: {"value": metrics[name], "interval": ends[name]} for name in metrics},
            "confusion": [[int(((labels == i) & (predicted == j)).sum()) for j in classes] for i in classes],
        }
        write_text(self.output_dir / "metrics.json", json.dumps(summary, indent=2) + "\n")
        for metric, value in metrics.items():
            logger.info("%s %.4f (95 %% interval %s)", metric, value, interval_text(ends[metric]))
