"""Who may read: one API key, as header (programs) or cookie (browsers); headers that keep a browser safe.

Everything served so far is read-only. A route that changes something must refuse a cookie without a CSRF token; until
there is one, :class:`Guard` refuses every unsafe method that comes with a cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict, deque
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quietbeam.core.errors import InputError
from quietbeam.core.settings import ServeSettings

from .colormaps import DASHBOARD
from .problems import MEDIA_TYPE, problem_body

SESSION_S = 7 * 24 * 3600
FAILURES_ALLOWED = 10
FAILURES_WINDOW_S = 60.0
_OPEN = ("/healthz", "/readyz")
_OPEN_BELOW = ("/ui/",)
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


class FailureLimit:
    """Counts wrong keys per address; at most `FAILURES_ALLOWED` in `FAILURES_WINDOW_S`, for at most 1024 addresses."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, address: str) -> None:
        """Note a wrong key."""
        times = self._failures.setdefault(address, deque(maxlen=FAILURES_ALLOWED))
        times.append(time.monotonic())
        self._failures.move_to_end(address)
        while len(self._failures) > 1024:
            self._failures.popitem(last=False)

    def wait_s(self, address: str) -> int:
        """Return how long the address must wait; 0 when it may try."""
        times = self._failures.get(address)
        if times is None or len(times) < FAILURES_ALLOWED:
            return 0
        left = times[0] + FAILURES_WINDOW_S - time.monotonic()
        return max(0, int(left) + 1) if left > 0 else 0


class Session:
    """Cookies that prove knowledge of the key without holding it: ``<expiry>.<HMAC(key, expiry)>``."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self.cookie = "quietbeam_" + hashlib.sha256(b"cookie:" + self._key).hexdigest()[:8]

    def _sign(self, expiry: str) -> str:
        return hmac.new(self._key, b"session:" + expiry.encode(), hashlib.sha256).hexdigest()

    def issue(self) -> str:
        """Return a new cookie value."""
        expiry = str(int(time.time()) + SESSION_S)
        return f"{expiry}.{self._sign(expiry)}"

    def accepts(self, value: str) -> bool:
        """True for a value of ours that has not expired."""
        expiry, _, signature = value.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(expiry).encode()):
            return False
        return expiry.isdecimal() and int(expiry) > time.time()


class Guard:
    """ASGI middleware: lets a request through, or answers 401, 403 or 429.

    Parameters
    ----------
    app
        What is guarded.
    key
        The single-user key.
    anonymous_read
        Let reads pass without a key.
    """

    def __init__(self, app: ASGIApp, key: str, anonymous_read: bool) -> None:
        self._app = app
        self._key = key.encode()
        self._anonymous = anonymous_read
        self._session = Session(key)
        self._limit = FailureLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._check(scope)
        if answer is None:
            await self._app(scope, receive, send)
        else:
            await answer(scope, receive, send)

    def _check(self, scope: Scope) -> Response | None:
        """Return None to let the request pass, else the answer."""
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root) or "/"
        address = (scope.get("client") or ("?", 0))[0]
        headers = Headers(scope=scope)
        if path == "/" and scope["method"] in ("GET", "HEAD"):
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            keys = [value for name, value in query if name == "api_key"]
            if keys:
                return self._sign_in(scope, address, keys[-1], [p for p in query if p[0] != "api_key"], root)
        if path in _OPEN or path.startswith(_OPEN_BELOW):
            return None
        given = _key_in(headers.get("authorization", ""))
        if given is not None:
            wait = self._limit.wait_s(address)
            if wait:
                return _refuse(
                    429, f"too many wrong keys from here; retry in {wait} s", path, {"Retry-After": str(wait)}
                )
            if hmac.compare_digest(given.encode(), self._key):
                return None
            self._limit.note(address)
            return self._unauthorized(path, "the API key is wrong")
        if self._has_session(headers):
            if scope["method"] in ("GET", "HEAD", "OPTIONS"):
                return None
            return _refuse(403, "a browser session may only read; use the header Authorization: Apikey KEY", path)
        if self._anonymous and scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        if path == "/":
            return _sign_in_page(401)
        return self._unauthorized(path, "an API key is needed: send the header Authorization: Apikey KEY")

    def _sign_in(self, scope: Scope, address: str, key: str, query: list[tuple[str, str]], root: str) -> Response:
        wait = self._limit.wait_s(address)
        if wait:
            return _sign_in_page(429, f"Too many wrong keys. Try again in {wait} s.", {"Retry-After": str(wait)})
        if not hmac.compare_digest(key.strip().encode(), self._key):
            self._limit.note(address)
            return _sign_in_page(401, "That key is wrong.")
        location = f"{root}/" + (f"?{urlencode(query)}" if query else "")
        response = RedirectResponse(location, 303)
        response.set_cookie(
            self._session.cookie,
            self._session.issue(),
            max_age=SESSION_S,
            path=root or "/",
            httponly=True,
            samesite="strict",
            secure=scope.get("scheme") == "https",
        )
        return response

    def _has_session(self, headers: Headers) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        morsel = cookies.get(self._session.cookie)
        return morsel is not None and self._session.accepts(morsel.value)

    def _unauthorized(self, path: str, detail: str) -> Response:
        challenge = 'Apikey realm="quietbeam", Bearer realm="quietbeam"'
        return _refuse(401, detail, path, {"WWW-Authenticate": challenge})


def _key_in(header: str) -> str | None:
    scheme, _, value = header.partition(" ")
    return value.strip() if scheme.lower() in ("apikey", "bearer") else None


def _refuse(status: int, detail: str, path: str, headers: dict[str, str] | None = None) -> Response:
    return Response(problem_body(status, detail, path), status, media_type=MEDIA_TYPE, headers=headers)


def _sign_in_page(status: int, message: str = "", headers: dict[str, str] | None = None) -> Response:
    page = (DASHBOARD / "sign_in.html").read_text().replace("<!-- message -->", message)
    return HTMLResponse(page, status, headers=headers)


class SafeHeaders:
    """ASGI middleware: adds the headers that keep a browser safe, and says by default that answers are private."""

    def __init__(self, app: ASGIApp, version: str) -> None:
        self._app = app
        self._headers = {**HEADERS, "x-quietbeam-version": version}

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
