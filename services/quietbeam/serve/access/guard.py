"""In front of every address: who asks, is the request the page's own, and headers that keep a browser safe."""

from __future__ import annotations

import asyncio
import ipaddress
from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.settings import ServeSettings
from quietbeam.serve.paths import HEALTH, path_in
from quietbeam.serve.problems import MEDIA_TYPE, problem_body
from quietbeam.serve.render.colormaps import DASHBOARD

from .identity import NO_KEY, Authenticator, key_in
from .scopes import ANONYMOUS, CHALLENGE, NOBODY, Principal
from .session import SESSION_S, cookies_in

_OPEN_BELOW = ("/ui/",)
_SAFE = ("GET", "HEAD", "OPTIONS")
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def check_bind(settings: ServeSettings) -> None:
    """Refuse to show everything to a whole network by accident.

    Raises
    ------
    InputError
        Anonymous reading on an address beyond loopback without `serve.insecure`.
    """
    try:
        loopback = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        loopback = settings.host == "localhost"
    if settings.anonymous_read and not loopback and not settings.insecure:
        raise InputError(
            f"serve.anonymous_read on {settings.host} would show every run to the whole network; "
            "set serve.insecure: true if that is wanted, or serve.host: 127.0.0.1"
        )


class Guard:
    """ASGI middleware: says who asks, or answers 401, 403 or 429; what they may do is checked at each address.

    Parameters
    ----------
    app
        What is guarded.
    authenticator
        Who knows the keys.
    anonymous_read
        Let reads pass without a key.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, anonymous_read: bool) -> None:
        self._app = app
        self._who = authenticator
        self._anonymous = anonymous_read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = path_in(scope)
        try:
            found = await (self._check(scope, path) if scope["type"] == "http" else self._check_socket(scope))
        except HTTPException as error:
            found = _refuse(error, path)
            if path == "/":
                found = _sign_in_page(error.status_code, str(error.detail), dict(error.headers or {}))
        except ServiceError as error:
            found = _refuse(HTTPException(503, str(error)), path)
        if isinstance(found, Response):
            await found(scope, receive, send)
            return
        scope["state"] = {**scope.get("state", {}), "principal": found}
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope, path: str) -> Principal | Response:
        headers, address = Headers(scope=scope), address_of(scope)
        if path == "/" and scope["method"] in ("GET", "HEAD"):
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            keys = [value for name, value in query if name == "api_key"]
            if keys:
                return await self._sign_in(scope, address, keys[-1].strip(), [p for p in query if p[0] != "api_key"])
        if path in HEALTH or path.startswith(_OPEN_BELOW):
            return NOBODY
        given = key_in(headers.get("authorization", ""))
        if given is not None:
            return await self._who.identify(given, address)
        cookies = cookies_in(headers.get("cookie", ""))
        principal = self._who.by_cookie(cookies)
        if principal is not None:
            session = cookies[self._who.session.cookie]
            if scope["method"] in _SAFE:
                return principal
            if self._who.session.csrf_fits(session, cookies, headers.get("x-csrf", "")):
                return principal
            raise HTTPException(
                403,
                "a page must send the header X-CSRF with the token that api/v1/auth/whoami tells; programs send a key",
            )
        if self._anonymous and scope["method"] in _SAFE:
            return ANONYMOUS
        if path == "/":
            return _sign_in_page(401)
        raise HTTPException(401, NO_KEY, CHALLENGE)

    async def _check_socket(self, scope: Scope) -> Principal:
        """Return who opens a websocket; nobody may still prove who they are with the first message.

        A browser sends cookies with the sockets of any page, and no page can forge the Origin: another page's is
        refused, whatever else it brings. Programs send none.
        """
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise HTTPException(403, "this websocket was opened by a page of another site")
        given = key_in(headers.get("authorization", ""))
        if given is not None:
            return await self._who.identify(given, address_of(scope))
        principal = self._who.by_cookie(cookies_in(headers.get("cookie", ""))) if origin is not None else None
        return principal or (ANONYMOUS if self._anonymous else NOBODY)

    async def _sign_in(self, scope: Scope, address: str, key: str, query: list[tuple[str, str]]) -> Response:
        """Open a session; the address that the browser keeps has no key."""
        principal = await self._who.identify(key, address)
        root = scope.get("root_path", "")
        response = RedirectResponse(f"{root}/" + (f"?{urlencode(query)}" if query else ""), 303)
        value = self._who.open_session(principal)
        for name, content, hidden in (
            (self._who.session.cookie, value, True),
            (self._who.session.csrf_cookie, self._who.session.csrf(value), False),
        ):
            response.set_cookie(
                name,
                content,
                max_age=SESSION_S,
                path=root or "/",
                httponly=hidden,
                samesite="strict",
                secure=scope.get("scheme") == "https",
            )
        return response


def address_of(scope: Scope) -> str:
    """Return the address of the caller."""
    return str((scope.get("client") or ("?", 0))[0])


def _refuse(error: HTTPException, path: str) -> Response:
    body = problem_body(error.status_code, str(error.detail), path)
    headers = dict(error.headers) if error.headers else None
    return Response(body, error.status_code, media_type=MEDIA_TYPE, headers=headers)


def _sign_in_page(status: int, message: str = "", headers: dict[str, str] | None = None) -> Response:
    text = escape(message[:1].upper() + message[1:])
    page = (DASHBOARD / "sign_in.html").read_text(encoding="utf-8").replace("<!-- message -->", text)
    return HTMLResponse(page, status, headers=headers)


class BodyLimit:
    """ASGI middleware: refuses bodies of more than `limit` bytes, announced or not, and those that take too long."""

    def __init__(self, app: ASGIApp, limit: int, patience_s: float) -> None:
        self._app = app
        self._error = HTTPException(413, f"the body is too large; at most {limit} bytes are taken")
        self._slow = HTTPException(408, f"the body did not come within {patience_s:g} s")
        self._limit, self._patience_s = limit, patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced) > self._limit:
            await _refuse(self._error, scope["path"])(scope, receive, send)
            return
        n_bytes, more = 0, True
        deadline = asyncio.get_running_loop().time() + self._patience_s

        async def counted() -> Message:
            nonlocal n_bytes, more
            try:
                async with asyncio.timeout_at(deadline if more else None):
                    message = await receive()
            except TimeoutError:
                raise self._slow from None
            n_bytes += len(message.get("body", b""))
            more = bool(message.get("more_body", False))
            if n_bytes > self._limit:
                raise self._error
            return message

        await self._app(scope, counted, send)


class SafeHeaders:
    """ASGI middleware: adds the headers that keep a browser safe, and says by default that answers are private."""

    def __init__(self, app: ASGIApp, version: str, api_version: str) -> None:
        self._app = app
        self._headers = {**HEADERS, "x-quietbeam-version": version, "x-api-version": api_version}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to one answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    if name != "content-security-policy" or name not in headers:  # a report brings its own
                        headers[name] = value
                headers.setdefault("cache-control", "private, no-cache")
                if scope.get("scheme") == "https":
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
