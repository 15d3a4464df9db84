"""The front itself: a plain ASGI application around MONAI Label's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Any
from urllib.parse import parse_qsl, urlencode

from label_server.front.access import check_token, login
from label_server.front.answers import Answer, Send, answer
from label_server.front.bodies import LARGEST_TEXT, DisconnectedError, Form, Receive, read_form, replay, spooled
from label_server.front.checks import Knowledge, check_query
from label_server.front.contents import Request, check_form, check_json
from label_server.front.origins import check_host, check_origin, preflight
from label_server.front.refusals import Refusal, shown
from label_server.front.routes import Route, find_route
from label_server.front.settings import Settings

Scope = dict[str, Any]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Fields = list[tuple[bytes, bytes]]
ONCE = ("host", "origin", "authorization", "content-type", "content-length")
NOT_PASSED_ON = (b"origin", b"authorization", b"content-type", b"content-length", b"transfer-encoding")

logger = logging.getLogger(__name__)


class Front:
    """Checks every request before MONAI Label sees it; what is refused is answered with one sentence.

    Args:
        app: MONAI Label's application.
        settings: what is allowed.
        knowledge: what the app has.
    """

    def __init__(self, app: Application, settings: Settings, knowledge: Knowledge) -> None:
        self._app, self._settings, self._knowledge = app, settings, knowledge
        self._one_at_a_time = asyncio.Lock()  # the voxels of a label are read whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection.

        Args:
            scope: of ASGI.
            receive: of ASGI.
            send: of ASGI.
        """
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = Answer(send)
        try:
            headers = _headers(scope)
            check_host(headers.get("host", ""), self._settings)
            reply.headers = check_origin(headers, self._settings)
            if scope["method"] == "OPTIONS":
                await answer(send, 200, {}, preflight(reply.headers))
            elif scope["path"].startswith("/auth"):
                await answer(send, 200, await self._login(scope, headers, receive), reply.headers)
            else:
                await self._checked(scope, headers, receive, reply)
        except Refusal as refusal:
            await answer(send, refusal.status, {"detail": refusal.sentence}, [*reply.headers, *refusal.headers])
        except DisconnectedError:
            logger.info("%s %s: the client has gone", scope["method"], scope["path"])
        except Exception as error:
            logger.exception("%s %s", scope["method"], scope["path"])
            await reply.finish(error)

    async def _login(self, scope: Scope, headers: dict[str, str], receive: Receive) -> dict[str, Any]:
        token, asked = self._settings.token, (scope["method"], scope["path"].rstrip("/"))
        if asked == ("GET", "/auth"):
            return {"enabled": bool(token), "client_id": "", "realm": ""}
        if token and asked == ("GET", "/auth/token/valid"):
            check_token(headers.get("authorization", ""), token)
            return {"username": "admin"}
        if token and asked == ("POST", "/auth/token"):
            async with spooled(receive, LARGEST_TEXT, headers.get("content-length")) as file:
                file.seek(0)
                return login(file.read(), token)
        raise Refusal(404, f"there is nothing at {shown(scope['path'])}; see / for what there is")

    async def _checked(self, scope: Scope, headers: dict[str, str], receive: Receive, reply: Answer) -> None:
        route, names = find_route(scope["method"], scope["path"])
        self._permit(route, headers)
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        request = Request(route, names, query)
        check_query(route, names, query, self._settings, self._knowledge)
        if not route.body:
            await self._pass_on(scope, query, [], receive, reply)
            return
        limit = self._settings.max_body if route.body == "form" else min(LARGEST_TEXT, self._settings.max_body)
        async with spooled(receive, limit, headers.get("content-length")) as file:
            if route.body == "json":
                await self._pass_on(scope, query, *self._json(request, file, receive), reply)
                return
            async with self._one_at_a_time:
                form = await asyncio.to_thread(self._form, request, file, headers)
                if request.stored:  # to add it anew is to forget its labels
                    await reply.say({"image": dict(request.query)["image"]})
                    return
                if route.does == "image":  # the next one may have the same name
                    await self._pass_on(scope, request.query, *form.rewritten(receive), reply)
                    return
            await self._pass_on(scope, request.query, *form.rewritten(receive), reply)

    def _permit(self, route: Route, headers: dict[str, str]) -> None:
        settings = self._settings
        if settings.token and (route.writes or not settings.local):
            check_token(headers.get("authorization", ""), settings.token)
        on = {"": True, "--allow-delete": settings.allow_delete, "--allow-upload": settings.allow_upload}
        if not on[route.switch]:
            raise Refusal(403, f"this is off; start the server with {route.switch} to allow it")

    def _form(self, request: Request, file: IO[bytes], headers: dict[str, str]) -> Form:
        form = read_form(file, headers)
        check_form(request, form, self._settings, self._knowledge)
        return form

    def _json(self, request: Request, file: IO[bytes], receive: Receive) -> tuple[Fields, Receive]:
        file.seek(0)
        options = check_json(request, file.read(), self._settings, self._knowledge)
        content = b"" if options is None else json.dumps(options).encode()

        async def once() -> AsyncIterator[bytes]:
            yield content

        fields = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        return fields, replay(once(), receive)

    async def _pass_on(
        self, scope: Scope, query: list[tuple[str, str]], fields: Fields, receive: Receive, reply: Answer
    ) -> None:
        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in NOT_PASSED_ON]
        changed = {"query_string": urlencode(query).encode(), "headers": [*kept, *fields]}
        await self._app({**scope, **changed}, receive, reply)
        await reply.finish(None)


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in ONCE and name in headers:
            raise Refusal(400, f"the header {name} is given twice; send it once")
        headers[name] = value.decode("latin-1")
    return headers
