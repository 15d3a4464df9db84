"""The numbers that ``compare`` is given, read and refused before anything is imported that takes seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """What was asked for, as numbers.

    Args:
        minutes: of each training, ``None`` where steps are given.
        steps: of each training, ``None`` where minutes are given.
        seeds: trainings of each network per fold.
        folds: numbers of the folds.
        rates: learning rates to try.
        jobs: trainings side by side.
    """

    minutes: float | None
    steps: int | None
    seeds: int
    folds: Sequence[int]
    rates: Sequence[float]
    jobs: int


def read_request(*, minutes: Any, steps: Any, seeds: Any, folds: Any, learning_rates: Any, jobs: Any) -> Request:
    """Return the numbers, of texts as a command line has them.

    Args:
        minutes: a positive number, or ``None``.
        steps: a whole number from 1, or ``None``.
        seeds: a whole number from 1.
        folds: whole numbers with commas between them.
        learning_rates: positive numbers with commas between them.
        jobs: a whole number from 1.

    Raises:
        ValueError: if one is something else, or a fold or a rate is given twice.

    Example:
        >>> read_request(minutes="15", steps=None, seeds=2, folds="0,1", learning_rates="0.001", jobs="2").folds
        [0, 1]
    """
    return Request(
        None if minutes is None else _number("minutes", minutes, float, 0),
        None if steps is None else int(_number("steps", steps, int, 0)),
        int(_number("seeds", seeds, int, 0)),
        [int(number) for number in _numbers("folds", folds, int, -1)],
        _numbers("learning_rates", learning_rates, float, 0),
        int(_number("jobs", jobs, int, 0)),
    )


def _number(name: str, value: Any, kind: Callable[[str], float], above: float) -> float:
    try:
        number = kind(str(value))
    except ValueError:
        number = math.nan
    if not above < number < math.inf:
        what = "whole number" if kind is int else "number"
        raise ValueError(f"--{name} must be a {what} above {above:g}, got {value!r}; correct it")
    return number


def _numbers(name: str, value: Any, kind: Callable[[str], float], above: float) -> list[float]:
    numbers = [_number(name, part.strip(), kind, above) for part in str(value).split(",")]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"--{name} {value} has a number twice; leave one out")
    return numbers
