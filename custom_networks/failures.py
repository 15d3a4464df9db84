"""Errors that nobody foresaw: one line for the terminal, and a log file that keeps the whole traceback."""

from __future__ import annotations

import dis
import errno
import os
import platform
import re
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

MOST_LETTERS = 300
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PACKAGES = ("custom_networks", "tools")
ON_PURPOSE = (ValueError, RuntimeError, OSError)
RAISE = dis.opmap["RAISE_VARARGS"]
# what a process that loads data says of an error: a frame of this package directly before the sentence
IN_A_WORKER = re.compile(
    r'  File "[^"\n]*[\\/]custom_networks[\\/][^\n]*\n(?: {4}[^\n]*\n)*(?:ValueError|FileNotFoundError): ([^\n]+)'
)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, the innermost last.

    Args:
        error: any exception.
    """
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def is_ours(error: BaseException) -> bool:
    """Return whether a statement ``raise`` of this project is where an error began, so that its text is a sentence.

    Args:
        error: any exception.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or not isinstance(error, ON_PURPOSE):
        return False
    if traceback.tb_frame.f_code.co_code[traceback.tb_lasti] != RAISE:
        return False
    return str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in PACKAGES


def sentence_of(error: BaseException) -> str | None:
    """Return the sentence of the innermost error that this project raised on purpose, or ``None``.

    Args:
        error: the error that arrived, often wrapped by MONAI, or carried over from a process that loads data.
    """
    sentence = None
    for seen in chain_of(error):
        if is_ours(seen):
            sentence = str(seen)
        elif found := IN_A_WORKER.search(str(seen)):
            sentence = found[1]
    return sentence


def on_one_line(error: BaseException) -> str:
    r"""Return the message of an error without line breaks, cut where it is long; its type where it says nothing.

    Args:
        error: any exception.

    Example:
        >>> on_one_line(ValueError("two\nlines")), on_one_line(KeyError())
        ('two lines', 'KeyError')
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."


def file_sentence(error: OSError) -> str | None:
    """Return what the operating system says about a file, and what to do; ``None`` if it says nothing.

    Args:
        error: the error of a file that cannot be read or written.

    Example:
        >>> file_sentence(OSError(errno.ENOSPC, "No space left on device", "out/model.pt"))
        'out/model.pt: no space left on device; free some, or write to another place'
        >>> file_sentence(OSError("a message of our own"))
    """
    if not error.strerror:
        return None
    file = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    reason = f"{error.strerror[0].lower()}{error.strerror[1:]}"
    advice = "free some, or write to another place" if error.errno in FULL else "correct the path or its permissions"
    return f"{file}{reason}; {advice}"


def sentence_about_files(error: BaseException, folder: Path | None = None) -> str | None:
    """Return what the operating system says about a file in an error or what it came from, ``None`` if nothing.

    A file that cannot be closed on a full disk says so twice, and names itself once.

    Args:
        error: the error that arrived.
        folder: where results go, for a full disk whose error names no file.
    """
    told = [(seen, said) for seen in chain_of(error) if isinstance(seen, OSError) and (said := file_sentence(seen))]
    named = [said for seen, said in told if seen.filename is not None]
    if named or not told:
        return named[-1] if named else None
    seen, said = told[-1]
    return f"{folder}: {said}" if folder is not None and seen.errno in FULL else said


def write_log(error: BaseException, folder: Path | None = None) -> str:
    """Write the whole traceback of an error to a file of its own, and return where it is, in words.

    Args:
        error: the error.
        folder: where the file is to lie; the folder for temporary files if None, or if it cannot be written.
    """
    name = f"error_{time.strftime('%Y%m%d_%H%M%S')}_"
    text = f"{shlex.join(sys.orig_argv)}\nPython {platform.python_version()}, {platform.platform()}\n\n" + "".join(
        traceback.format_exception(error)
    )
    for place in [Path(tempfile.gettempdir())] if folder is None else [folder, Path(tempfile.gettempdir())]:
        try:
            place.mkdir(parents=True, exist_ok=True)
            number, log = tempfile.mkstemp(".log", name, place)
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            continue
        return f"the whole traceback is in {log}"
    return "the traceback cannot be written anywhere"
