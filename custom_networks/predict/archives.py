"""Unpack a zip that somebody else has made, or refuse it before a byte is written."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from custom_networks.workflow.data.formats.grid import in_short

MAC = "__MACOSX"
BLOCK = 4096
"""Bytes that even an empty file takes."""


def unpack(file: Path, folder: Path) -> None:
    """Unpack a zip, without what a Mac adds to it.

    Args:
        file: the zip.
        folder: where to; it exists and is empty.

    Raises:
        ValueError: if it is no zip, is damaged, encrypted or larger than the free disk, or holds a link, a name twice
            or a name that leads out of the folder.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if MAC not in PurePosixPath(member.filename).parts]
            _check(file, members, shutil.disk_usage(folder).free)
            for member in members:
                archive.extract(member, folder)
    except NotImplementedError as error:
        raise ValueError(f"{file} is packed in a way that is not read ({in_short(error)}); pack it anew") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{file} is no zip or is damaged ({in_short(error)}); copy it again") from error


def _check(file: Path, members: Sequence[zipfile.ZipInfo], free: int) -> None:
    """Refuse what no packed image needs, from the table of contents."""
    for member in members:
        name = member.filename
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
            raise ValueError(f"{file} holds {name!r}, a name that may lead out of its folder; pack it anew")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{file} holds {name!r}, which is a link or no file; pack the files themselves")
        if member.flag_bits & 1:
            raise ValueError(f"{file} is encrypted; unpack it with its password and give the folder")
    names = Counter(member.filename.rstrip("/") for member in members)
    if any(name.endswith("configs/metadata.json") for name in names):
        raise ValueError(f"{file} is a packed bundle, not an image; give it as --bundle, and the images before")
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"{file} holds {twice[0]!r} twice; pack it anew")
    needed = sum(max(member.file_size, BLOCK) for member in members)
    if needed > free:
        raise ValueError(
            f"{file} unpacks to {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free for temporary files; free "
            "some, or set TMPDIR to a larger disk"
        )
