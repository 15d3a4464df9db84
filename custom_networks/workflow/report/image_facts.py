"""What an image is like, whatever it shows: size, voxels, and intensities by facts that no scaling changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from custom_networks.workflow.data.headers import in_ras

SAMPLES = 2**18
"""Voxels per channel that are looked at, spread over the image."""
LIMITED = ("p1", "p50", "p99", "middle", "share", "distinct")
"""The facts of a channel whose least and most are kept."""


def image_facts(image: np.ndarray | Sequence[np.ndarray], affine: np.ndarray) -> dict[str, Any]:
    """Return what an image is like, from its voxels as read, before any normalisation.

    Args:
        image: ``(C, X, Y, Z)``, or a list of channels; voxels that are no number are left out.
        affine: voxels to mm, RAS.

    Returns:
        Along the axes of RAS ``shape``, ``spacing`` and ``extent_mm``, and per channel in ``intensity`` the percentiles
        ``p1``, ``p50``, ``p99``; ``middle``, where the median lies between the others, 0 to 1; ``commonest``, the most
        frequent value, and ``share``, that of the voxels with it; ``distinct``, the number of values; and
        ``hounsfield``, whether they look like those of CT.

    Cost:
        A sort of about 260,000 voxels per channel.

    Example:
        >>> image_facts(np.arange(1000.0).reshape(1, 10, 10, 10), np.diag([2, 1, 1, 1]))["extent_mm"]
        [20.0, 10.0, 10.0]
    """
    shape, spacing = in_ras(image[0].shape, affine)
    return {
        "shape": list(shape),
        "spacing": list(spacing),
        "extent_mm": [n * size for n, size in zip(shape, spacing, strict=True)],
        "intensity": [_intensities(channel) for channel in image],
    }


def _intensities(channel: np.ndarray) -> dict[str, Any]:
    values = _sample(channel)
    p1, p50, p99 = (float(p) for p in np.percentile(values, (1, 50, 99)))
    known, counts = np.unique(values, return_counts=True)
    commonest = float(known[counts.argmax()])
    return {
        **{"p1": p1, "p50": p50, "p99": p99, "middle": (p50 - p1) / (p99 - p1) if p99 > p1 else 0.0},
        **{"commonest": commonest, "share": float(counts.max() / values.size), "distinct": len(known)},
        # fat and air are far below water. What was set to 0 around a brain tells of MR, negative as that may be
        "hounsfield": p1 <= -100 and -1100 <= p50 <= 300 and commonest != 0,
    }


def _sample(channel: np.ndarray) -> np.ndarray:
    """Return about ``SAMPLES`` voxels in float64, the same ones every time."""
    step = max(1, -(-channel.size // SAMPLES))
    while math.gcd(step, channel.size) != 1:  # a step that divides a row would stay in one plane
        step += 1
    values = channel.ravel(order="K")[::step].astype(np.float64)  # "K" as it lies in memory, without a copy
    finite = values[np.isfinite(values)]
    return finite if finite.size else np.zeros(1)


def spread(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return between which values the facts of several images lie.

    Args:
        cases: results of :func:`image_facts`, at least one, of equally many channels.

    Returns:
        ``shape``, ``spacing`` and ``extent_mm``, each with ``least`` and ``most`` per axis, and per channel in
        ``intensity`` the least and the most of every fact but the commonest value; ``hounsfield`` is the share of the
        images.
    """
    axes: dict[str, Any] = {}
    for key in ("shape", "spacing", "extent_mm"):
        values = np.array([case[key] for case in cases])
        axes[key] = {"least": short(values.min(0).tolist()), "most": short(values.max(0).tolist())}
    channels = []
    for channel in zip(*(case["intensity"] for case in cases), strict=True):
        facts = {key: [facts[key] for facts in channel] for key in channel[0]}
        limits = {key: short([min(facts[key]), max(facts[key])]) for key in LIMITED}
        channels.append({**limits, "hounsfield": short([sum(facts["hounsfield"]) / len(channel)])[0]})
    return {**axes, "intensity": channels}


def short(values: Sequence[float]) -> list[float]:
    """Return numbers rounded to four digits, integers as they are.

    Args:
        values: the numbers.

    Example:
        >>> short([1.23456, 512])
        [1.235, 512]
    """
    return [value if isinstance(value, int) else float(f"{value:.4g}") for value in values]
