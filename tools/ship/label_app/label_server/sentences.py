"""Errors as one sentence."""

from __future__ import annotations


def first_cause(error: BaseException) -> BaseException:
    """Return what went wrong first.

    Args:
        error: the error that arrived, often wrapped by MONAI.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def sentence(error: BaseException) -> str:
    """Return what went wrong first, on one line.

    Args:
        error: the error that arrived.
    """
    cause = first_cause(error)
    return " ".join(str(cause).split()) or type(cause).__name__
