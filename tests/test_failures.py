"""What the operating system says of a file becomes a sentence that names it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from custom_networks.failures import sentence_about_files
from custom_networks.files import replacing

FULL = "no space left on device; free some, or write to another place"


def full(name=None):
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


def close_twice():
    """Fail as a file does that is closed with something in it."""
    try:
        raise full()
    finally:
        raise full()


def test_the_file_is_named_where_the_error_comes_twice(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "metrics.csv"):
        close_twice()
    assert sentence_about_files(caught.value, Path("out")) == f"{tmp_path / 'metrics.csv'}: {FULL}"
    assert not list(tmp_path.iterdir())


def test_the_folder_is_named_where_nothing_names_a_file():
    wrapped = RuntimeError("applying a transform")
    wrapped.__cause__ = full()
    assert sentence_about_files(wrapped, Path("out")) == f"out: {FULL}"
    assert sentence_about_files(wrapped) == FULL
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert sentence_about_files(denied, Path("out")) == "permission denied; correct the path or its permissions"


def test_what_is_about_no_file():
    assert sentence_about_files(ValueError("3"), Path("out")) is None
