"""Answers: refusals as one sentence of JSON, and those of MONAI Label that say too little or too much."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from label_server.front.images import one_line

Send = Callable[[dict[str, Any]], Awaitable[None]]
NOT_FOUND = ("ImageNotFoundException", "LabelNotFoundException")
SAFE = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("cross-origin-resource-policy", "same-origin"),
]


async def answer(send: Send, status: int, content: dict[str, Any], headers: list[tuple[str, str]]) -> None:
    """Send an answer in JSON.

    Args:
        send: the server's.
        status: the HTTP status.
        content: what to say.
        headers: headers.
    """
    body = json.dumps(content).encode()
    fields = [("content-length", str(len(body))), ("content-type", "application/json"), *SAFE, *headers]
    await send({"type": "http.response.start", "status": status, "headers": _encoded(fields)})
    await send({"type": "http.response.body", "body": body})


class Answer:
    """What MONAI Label answers: errors are held back until their cause is known, everything else goes through.

    Args:
        send: the server's.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.headers: list[tuple[str, str]] = []
        """For pages of allowed origins."""
        self._started = False
        self._status = 0
        self._held = b""

    async def __call__(self, message: dict[str, Any]) -> None:
        """Take a message of the application.

        Args:
            message: of ASGI.
        """
        if message["type"] == "http.response.start":
            if message["status"] in (422, 500):
                self._status = message["status"]
                return
            self._started = True
            added = _encoded([*SAFE, *self.headers])
            message = {**message, "headers": [*message.get("headers", []), *added]}
        elif self._status and not self._started:
            self._held += message.get("body", b"")
            return
        await self._send(message)

    async def say(self, content: dict[str, Any]) -> None:
        """Answer in place of the application.

        Args:
            content: what to say.
        """
        self._started = True
        await answer(self._send, 200, content, self.headers)

    async def finish(self, error: Exception | None) -> None:
        """Send what was held back.

        Args:
            error: what the application raised.

        Raises:
            Exception: the error, if the answer was under way.
        """
        if self._started:
            if error is not None:
                raise error
            return
        if error is not None:
            self._status = 404 if type(error).__name__ in NOT_FOUND else 500
        if error is not None or self._status:
            await answer(self._send, self._status or 500, {"detail": self._sentence(error)}, self.headers)

    def _sentence(self, error: Exception | None) -> str:
        try:
            detail = json.loads(self._held)["detail"]
        except (ValueError, KeyError, TypeError):
            detail = None
        if isinstance(detail, list):  # of FastAPI
            return "; ".join(f"{'.'.join(map(str, item.get('loc', ())))}: {item.get('msg')}" for item in detail)
        if detail:
            return " ".join(str(detail).split())
        if error is None:
            return "the server failed; its log says more"
        said = one_line(Exception(getattr(error, "msg", error)))  # MONAI Label's own have no text but this
        return said if self._status == 404 else f"the server failed: {said}; its log says more"


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
