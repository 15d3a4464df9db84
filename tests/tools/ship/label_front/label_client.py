"""The front of the MONAI Label server before an application that says what reaches it."""

from __future__ import annotations

import asyncio
import gzip
import json

import nibabel as nib
import numpy as np
from label_server.front.middleware import Front
from label_server.front.settings import Settings

TOKEN = "a-token-of-sixteen-or-more"
BEARER = {"authorization": f"Bearer {TOKEN}"}
HERE = {"host": "127.0.0.1:8000"}
GONE = {"type": "http.disconnect"}


class Knowledge:
    """An app with one model and the images of a folder."""

    def __init__(self, folder):
        self.folder = folder

    def names(self, task):
        return {"train": ["net"], "batch": ["net", "classifier"], "scoring": [], "activelearning": ["first"]}[task]

    def image(self, name):
        path = self.folder / f"{name}.nii.gz"
        return str(path) if path.is_file() else ""

    def weights_problem(self, model, file):
        return "" if file.read_bytes() == b"weights" else "the file holds no weights"


class Inner:
    """What stands for MONAI Label: it keeps what it was asked, and answers as it was told."""

    def __init__(self):
        self.asked = []
        self.answer = (200, b"{}", [])
        self.error = None

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more and scope["method"] not in ("GET", "HEAD"):
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope, body))
        status, content, headers = self.answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        if self.error:
            raise self.error


class Client:
    def __init__(self, folder, **options):
        self.studies, self.sessions = folder / "studies", folder / "sessions"
        for path in (self.studies, self.sessions):
            path.mkdir(exist_ok=True)
        settings = {"studies": str(self.studies), "sessions": str(self.sessions), "token": TOKEN, **options}
        self.inner = Inner()
        self.front = Front(self.inner, Settings(**settings), Knowledge(self.studies))

    def ask(self, method, path, headers=BEARER, body=b"", chunks=None):
        """Return status, headers and JSON of the answer."""
        path, _, query = path.partition("?")
        sent = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks or [body]]
        sent[-1]["more_body"] = False
        got = []

        async def receive():
            return sent.pop(0) if sent else GONE

        async def send(message):
            got.append(message)

        fields = {**HERE, **headers}
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in fields.items()]
        asyncio.run(self.front(scope, receive, send))
        assert [message["type"] for message in got] == ["http.response.start", "http.response.body"]
        answered = {name.decode(): value.decode() for name, value in got[0]["headers"]}
        return got[0]["status"], answered, json.loads(got[1]["body"] or b"{}")

    def refused(self, *request, **options):
        """Return status and sentence of a request that must not get through."""
        before = len(self.inner.asked)
        status, _, answer = self.ask(*request, **options)
        assert status >= 400
        assert len(self.inner.asked) == before
        assert set(answer) == {"detail"}
        assert isinstance(answer["detail"], str)
        assert "\n" not in answer["detail"]
        return status, answer["detail"]


def volume(dtype=np.int16, shape=(4, 5, 6), affine=None):
    return nib.Nifti1Image(np.ones(shape, dtype), np.diag([-1, 1, 2, 1.0]) if affine is None else affine)


def nifti(image):
    return gzip.compress(image.to_bytes())


def form(*parts, boundary="limit"):
    """Return headers and body of a form of (name, filename or None, content)."""
    body = b""
    for name, filename, content in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        head += f'; filename="{filename}"\r\nContent-Type: image/any' if filename is not None else ""
        body += f"{head}\r\n\r\n".encode() + (content if isinstance(content, bytes) else content.encode()) + b"\r\n"
    headers = {**BEARER, "content-type": f"multipart/form-data; boundary={boundary}"}
    return {"headers": headers, "body": body + f"--{boundary}--\r\n".encode()}
