"""Sessions of browsers: a cookie that proves knowledge of a key without holding it, and its CSRF token."""

from __future__ import annotations

import hashlib
import hmac
import time
from http.cookies import CookieError, SimpleCookie

SESSION_S = 7 * 24 * 3600
SINGLE_USER_NAME = "-"


class Session:
    """Signs and reads cookies: ``<whose>.<expiry>.<HMAC(key, whose, expiry)>``.

    `whose` is the first eight characters of an API key, or ``-`` for the single-user key, so that a revoked key ends
    its sessions.

    Parameters
    ----------
    key
        The single-user key; another key ends every session.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self.cookie = "quietbeam_" + hashlib.sha256(b"cookie:" + self._key).hexdigest()[:8]
        self.csrf_cookie = f"{self.cookie}_csrf"

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()

    def issue(self, whose: str = SINGLE_USER_NAME, expires: float | None = None) -> str:
        """Return a new cookie value; it never outlives the key."""
        expiry = int(min(time.time() + SESSION_S, float("inf") if expires is None else expires))
        return f"{whose}.{expiry}.{self._sign('session', f'{whose}.{expiry}')}"

    def read(self, value: str) -> str | None:
        """Return whose session a value of ours is, None for any other and for one that is over."""
        body, _, signature = value.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("session", body).encode()):
            return None
        whose, _, expiry = body.partition(".")
        return whose if expiry.isdecimal() and int(expiry) > time.time() else None

    def csrf(self, value: str) -> str:
        """Return the token that belongs to a session; a page must send it with everything that changes something."""
        return self._sign("csrf", value)

    def csrf_fits(self, value: str, cookies: dict[str, str], header: str) -> bool:
        """True when header and cookie both hold the session's token."""
        wanted = self.csrf(value).encode()
        given = (header, cookies.get(self.csrf_cookie, ""))
        return all(hmac.compare_digest(one.encode(), wanted) for one in given)


def cookies_in(header: str) -> dict[str, str]:
    """Return the cookies of a request; none when they cannot be read."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}
