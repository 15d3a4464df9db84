"""Read and write files: JSON that names its file where it is broken, results that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def parse_json(text: str, where: str) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the JSON.
        where: where it comes from, for the error.

    Raises:
        ValueError: if it is no JSON.

    Example:
        >>> parse_json("[1, 2]", "mine.json")
        [1, 2]
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON ({error}); correct it") from error


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        file: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything else.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {file}; correct the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); correct it") from error
    document = parse_json(text, str(file))
    if not isinstance(document, dict):
        raise ValueError(f"{file} is not a JSON object; correct it")  # noqa: TRY004 - the file is wrong
    return document


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a temporary file that becomes ``file`` at the end; an exception leaves nothing behind.

    After a power failure, too, there is the old file or the whole new one.

    Args:
        file: the file to write; missing folders are made.

    Raises:
        OSError: if the file system has no room, which some say only when they are made to write.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # the name ends as that of the file, from which libraries tell the format
    partial = file.with_name(f".partial_{file.name}")
    try:
        yield partial
        # a new name may reach the disk before the content does
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(file)  # a full disk does not say which file it had no room for
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file in one move, so that no half of it is ever seen.

    Args:
        file: the file; missing folders are made.
        text: its whole content.
    """
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Args:
        file: the file.
    """
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()


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


def data_folder(dataset_dir: str | Path, knob: str = "set dataset_dir") -> Path:
    """Return the folder of a data set.

    Args:
        dataset_dir: what was given.
        knob: what to do where it is none.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is a file.
    """
    root = Path(str(dataset_dir))
    if root.is_dir():
        return root
    if root.is_file():
        refuse_archive(root)
        raise ValueError(f"{root} is a file where the folder of a data set is expected; {knob}")
    raise FileNotFoundError(f"there is no data set folder {root}; {knob}")


def refuse_archive(path: Path) -> None:
    """Refuse a packed file.

    Args:
        path: a file.

    Raises:
        ValueError: if its name is that of an archive.
    """
    if path.name.lower().endswith(ARCHIVES):
        raise ValueError(f"{path} is a packed file; unpack it and give the folder")
