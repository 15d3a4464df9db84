"""Points in a head that a user names by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from custom_networks.files import read_json

WAY = 'write for example "Left=-25,-20,-15 Right=27,-20,-15", or the name of a JSON file {"Left": [-25, -20, -15], ...}'


def read_points(text: str) -> dict[str, list[float]]:
    """Return points by their names.

    Args:
        text: ``name=right,anterior,superior`` of each with blanks between them, in mm; or a JSON file.

    Raises:
        ValueError: if it is neither, or a point is not three numbers.

    Example:
        >>> read_points("Left=-25,-20,-15.5 Right=27,-20,-15")
        {'Left': [-25.0, -20.0, -15.5], 'Right': [27.0, -20.0, -15.0]}
    """
    if "=" not in text and Path(text).is_file():
        pairs: list[tuple[str, Any]] = list(read_json(Path(text)).items())
    else:
        parted = [part.partition("=") for part in text.split()]
        pairs = [(name, numbers.split(",")) for name, _, numbers in parted]
    points = {name: _numbers(value) for name, value in pairs if name}
    wrong = len(points) < len(pairs) or not points or not all(points.values())
    if wrong:
        raise ValueError(f"--start-points must name points of three numbers in mm, got {text!r}; {WAY}")
    return points


def _numbers(value: Any) -> list[float]:
    """Return three finite numbers, nothing where a value is something else."""
    try:
        numbers = [float(one) for one in value]
    except (TypeError, ValueError):
        return []
    return numbers if len(numbers) == 3 and all(map(math.isfinite, numbers)) else []
