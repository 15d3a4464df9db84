"""Import MONAI without what it only offers to import, which takes a quarter of its time and segments nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

OPTIONAL = (
    "matplotlib.pyplot",  # pictures in notebooks
    "pandas",  # tables of a profiler
    "sklearn",  # one metric
    "tensorboard",  # curves of a training
)
"""What MONAI imports where it is there and do without where it is not."""


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Let modules seem to be absent, unless they are imported already; they can be imported afterwards.

    Args:
        *names: the modules.

    Example:
        >>> with hidden("wave"):
        ...     import wave
        Traceback (most recent call last):
        ModuleNotFoundError: import of wave halted; None in sys.modules
        >>> import wave
    """
    added = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(added))  # type: ignore[arg-type] # None is how an absent module is marked
    try:
        yield
    finally:
        for name in added:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def import_monai() -> None:
    """Import what runs a bundle, without what only some of MONAI's other parts need.

    A version of MONAI that cannot do without is imported as usual.
    """
    with hidden(*OPTIONAL), suppress(ImportError):
        importlib.import_module("monai.bundle")
