"""What every request passes first: the prefix of a proxy, HEAD, OPTIONS, a limit that spares the checks of health."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .paths import HEALTH, allowed_at, path_in
from .problems import MEDIA_TYPE, problem_body

_STREAM = "/events"


class Prefix:
    """ASGI middleware: tells the application its path prefix, whether or not the proxy in front strips it.

    Parameters
    ----------
    app
        What is served.
    root_path
        The prefix, as ``/xrf``; empty: none.
    first_parts
        First parts of the paths that the application has. A prefix may be called like one of them: what follows it
        then says whether it was stripped.
    """

    def __init__(self, app: ASGIApp, root_path: str, first_parts: Iterable[str]) -> None:
        self._app = app
        self._root_path = root_path
        self._first_parts = frozenset(first_parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, with the prefix in its path."""
        if scope["type"] in ("http", "websocket") and self._root_path:
            path: str = scope["path"]
            whole = path if self._has_prefix(path) else self._root_path + path
            scope = {**scope, "root_path": self._root_path, "path": whole}
        await self._app(scope, receive, send)

    def _has_prefix(self, path: str) -> bool:
        if path == self._root_path:
            return True
        if not path.startswith(f"{self._root_path}/"):
            return False
        if self._root_path.split("/")[1] not in self._first_parts:
            return True
        return path[len(self._root_path) + 1 :].partition("/")[0] in self._first_parts


class Methods:
    """ASGI middleware: answers HEAD as GET without the body, and OPTIONS with the methods of an address.

    Parameters
    ----------
    app
        What is served.
    places
        (method, path template) of every address.
    """

    def __init__(self, app: ASGIApp, places: Mapping[tuple[str, str], Any]) -> None:
        self._app = app
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            path = path_in(scope)
            allowed = {"GET"} if path == "*" else allowed_at(path, self._places)
            answer = Response(status_code=204 if allowed else 404, headers={"Allow": ", ".join(_with_safe(allowed))})
            await answer(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        begun = False

        async def without_body(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.body":
                if begun:
                    return
                begun = path_in(scope).endswith(_STREAM)  # it would go on for ever
                message = {
                    "type": "http.response.body",
                    "body": b"",
                    "more_body": not begun and message.get("more_body", False),
                }
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)


def _with_safe(methods: set[str]) -> list[str]:
    return sorted(methods | ({"HEAD", "OPTIONS"} if "GET" in methods else {"OPTIONS"}) if methods else set())


class Admission:
    """ASGI middleware: at most so many requests at once; the checks of health are answered at any time."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit, self._open = app, limit, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request."""
        if scope["type"] not in ("http", "websocket") or path_in(scope) in HEALTH:
            await self._app(scope, receive, send)
            return
        if self._open >= self._limit:
            await _refuse(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = HTTPException(503, "too many requests are open; retry in a moment")
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013, "reason": str(error.detail)})
        return
    body = problem_body(error.status_code, str(error.detail), scope["path"])
    await Response(body, error.status_code, {"Retry-After": "2"}, MEDIA_TYPE)(scope, receive, send)
