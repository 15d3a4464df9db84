"""Folders that appear whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_vacant(target: Path, content: str) -> None:
    """Refuse a folder that holds something.

    Args:
        target: folder to be created.
        content: what is to lie in it, for the error.

    Raises:
        ValueError: if ``target`` is a file or a folder that is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not empty and is not {content}; remove it or give another --output_dir")


@contextmanager
def new_folder(target: Path, content: str) -> Iterator[Path]:
    """Give an empty folder beside ``target`` and move it there at the end; an exception leaves nothing behind.

    Args:
        target: folder to create.
        content: what is to lie in it, for the error.

    Raises:
        ValueError: if ``target`` is a file or a folder that is not empty.
    """
    check_vacant(target, content)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        yield folder
        folder.replace(target)
