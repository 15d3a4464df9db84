"""Bodies of requests: counted, kept on disk, taken apart, and put together anew from what was checked.

The parts of a form are sent on under a boundary of our own, so that what MONAI Label reads is what was checked here,
whatever the two readers make of a strange body.
"""

from __future__ import annotations

import io
import mmap
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from label_server.front.refusals import Refusal, shown

Receive = Callable[[], Awaitable[dict[str, Any]]]
CHUNK = 1 << 20
LARGEST_TEXT = 1 << 20
MOST_PARTS = 20
PART = re.compile(
    rb'(?i)content-disposition\s*:\s*form-data\s*;\s*name="([^"\r\n]*)"(?:\s*;\s*filename="([^"\r\n]*)")?\s*'
)


class DisconnectedError(Exception):
    """The client has gone."""


@dataclass
class Part:
    """One field or file of a form.

    Args:
        name: of the field.
        filename: of a file, without its folders; None for a field.
        start: where it begins in the body.
        stop: where it ends.
    """

    name: str
    filename: str | None
    start: int
    stop: int


class Window(io.RawIOBase):
    """A part of a file, read as a file.

    Args:
        file: the file.
        start: where the part begins.
        stop: where it ends.
    """

    def __init__(self, file: IO[bytes], start: int, stop: int) -> None:
        self._file, self._at, self._stop = file, start, stop

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer.

        Args:
            buffer: where to.
        """
        self._file.seek(self._at)
        content = self._file.read(min(len(buffer), self._stop - self._at))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


@dataclass
class Form:
    """A form of fields and files.

    Args:
        file: where its parts are.
        parts: the parts.
    """

    file: IO[bytes]
    parts: list[Part]

    def open(self, part: Part) -> io.BufferedReader:
        """Return a part as a file.

        Args:
            part: one of the parts.
        """
        return io.BufferedReader(Window(self.file, part.start, part.stop))

    def text(self, part: Part) -> str:
        """Return the value of a field.

        Args:
            part: one of the parts.

        Raises:
            Refusal: 413 if it is longer than a megabyte, 400 if it is no text.
        """
        if part.stop - part.start > LARGEST_TEXT:
            raise Refusal(413, f"the field {shown(part.name)} is larger than {LARGEST_TEXT} bytes; send it as a file")
        try:
            return self.open(part).read().decode()
        except UnicodeDecodeError as error:
            raise Refusal(400, f"the field {shown(part.name)} is no text in UTF-8; encode it so") from error

    def copy(self, part: Part, path: Path) -> None:
        """Write a part into a file of its own.

        Args:
            part: one of the parts.
            path: the file.
        """
        with self.open(part) as source, path.open("wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)

    def rewritten(self, receive: Receive) -> tuple[list[tuple[bytes, bytes]], Receive]:
        """Return headers and body that say what was checked, and nothing else.

        Args:
            receive: what follows the body.
        """
        boundary = secrets.token_hex(16)
        pieces: list[bytes | Part] = []
        for part in self.parts:
            head = f'--{boundary}\r\ncontent-disposition: form-data; name="{part.name}"'
            if part.filename is not None:
                head += f'; filename="{part.filename}"\r\ncontent-type: application/octet-stream'
            pieces += [f"{head}\r\n\r\n".encode(), part, b"\r\n"]
        pieces.append(f"--{boundary}--\r\n".encode())
        size = sum(piece.stop - piece.start if isinstance(piece, Part) else len(piece) for piece in pieces)
        headers = [
            (b"content-type", f"multipart/form-data; boundary={boundary}".encode()),
            (b"content-length", str(size).encode()),
        ]
        return headers, replay(self._chunks(pieces), receive)

    async def _chunks(self, pieces: list[bytes | Part]) -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            source = self.open(piece)
            while chunk := source.read(CHUNK):
                yield chunk


def replay(chunks: AsyncIterator[bytes], receive: Receive) -> Receive:
    """Return a ``receive`` that hands out a body, and then what comes after it.

    Args:
        chunks: the body.
        receive: the server's own.
    """
    done = False

    async def replayed() -> dict[str, Any]:
        nonlocal done
        if done:
            return await receive()
        async for chunk in chunks:
            return {"type": "http.request", "body": chunk, "more_body": True}
        done = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return replayed


@asynccontextmanager
async def spooled(receive: Receive, limit: int, announced: str | None) -> AsyncIterator[IO[bytes]]:
    """Write a body into a file that vanishes at the end.

    Args:
        receive: the server's.
        limit: most bytes.
        announced: the header ``Content-Length``, if any.

    Raises:
        Refusal: 413 if there are more. What follows is read and dropped, up to as much again: a client that is cut off
            while it sends does not read why.
        DisconnectedError: if the client goes away.
    """
    size, too_large = 0, announced is not None and announced.isdecimal() and int(announced) > limit
    with tempfile.TemporaryFile() as file:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            chunk = message.get("body", b"")
            size += len(chunk)
            too_large = too_large or size > limit
            if not too_large:
                file.write(chunk)
            if not message.get("more_body") or size > 2 * limit:
                break
        if too_large:
            raise Refusal(
                413, f"the body is larger than {limit} bytes; send less, or start the server with another --max-body"
            )
        yield file


def read_form(file: IO[bytes], headers: Mapping[str, str]) -> Form:
    """Take a form apart.

    Args:
        file: the body.
        headers: of the request.

    Raises:
        Refusal: 400 if it is broken, 415 if it is no form.
    """
    kind = headers.get("content-type", "")
    size = file.seek(0, io.SEEK_END)
    if size == 0:
        return Form(file, [])
    if kind.startswith("application/x-www-form-urlencoded"):
        return _from_pairs(file, size)
    boundary = re.search(r'boundary="?([^";,\s]{1,70})"?', kind)
    if not kind.startswith("multipart/form-data") or boundary is None:
        raise Refusal(415, f"the body must be a form, got {shown(kind)}; send multipart/form-data")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return Form(file, list(_parts(data, b"--" + boundary[1].encode())))


def _from_pairs(file: IO[bytes], size: int) -> Form:
    if size > LARGEST_TEXT:
        raise Refusal(413, f"fields of a form must be smaller than {LARGEST_TEXT} bytes; send multipart/form-data")
    file.seek(0)
    pairs = parse_qsl(file.read().decode("utf-8", "replace"), keep_blank_values=True)
    parts = []
    for name, value in pairs[:MOST_PARTS]:
        start = file.seek(0, io.SEEK_END)
        file.write(value.encode())
        parts.append(Part(_plain(name), None, start, file.tell()))
    return Form(file, parts)


def _parts(data: mmap.mmap, mark: bytes) -> list[Part]:
    parts: list[Part] = []
    broken = Refusal(400, "the form is broken or ends early; send it again")
    if data[: len(mark)] != mark:
        raise broken
    at = len(mark)
    while data[at : at + 2] != b"--":
        head = data.find(b"\r\n\r\n", at, at + 8192)
        stop = data.find(b"\r\n" + mark, head + 4)
        if data[at : at + 2] != b"\r\n" or head < 0 or stop < 0:
            raise broken
        lines = data[at + 2 : head].split(b"\r\n")
        found = [match for line in lines if (match := PART.fullmatch(line))]
        if len(found) != 1 or len(parts) == MOST_PARTS:
            raise broken
        name, filename = (None if text is None else _decoded(text) for text in found[0].groups())
        base = None if filename is None else re.split(r"[\\/]", filename)[-1]  # Slicer sends the whole path
        parts.append(Part(_plain(name or ""), base, head + 4, stop))
        at = stop + 2 + len(mark)
    return parts


def _plain(name: str) -> str:
    if not re.fullmatch(r"\w{1,40}", name):
        raise Refusal(400, f"a field of the form is called {shown(name)}; use a name of letters, digits and _")
    return name


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Refusal(400, f"{shown(text)} of the form is no text in UTF-8; encode it so") from error
