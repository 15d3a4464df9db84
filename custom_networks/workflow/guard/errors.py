"""Errors of this package as one sentence on the command line."""

from __future__ import annotations

import sys
from types import TracebackType


def _raised_here(traceback: TracebackType | None) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    package = __name__.partition(".")[0]
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == package


def sentence_of(error: BaseException) -> str | None:
    """Return the sentence of the innermost error that this package raised on purpose, or ``None``.

    Args:
        error: the error that arrived, often wrapped by MONAI.
    """
    sentence = None
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ValueError | FileNotFoundError) and _raised_here(seen.__traceback__):
            sentence = str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return sentence


def report_errors() -> None:
    """On the command line, end with one sentence instead of MONAI's chain of tracebacks.

    Only in a process started as ``python -m monai.bundle``, and only for errors that this package raises on purpose;
    everything else keeps its traceback. The exit code stays 1.
    """
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is None or not main.name.startswith("monai.bundle"):
        return

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        sentence = sentence_of(error)
        if sentence is None:
            sys.__excepthook__(kind, error, traceback)
        else:
            sys.stderr.write(f"error: {sentence}\n")

    sys.excepthook = hook
