"""Who somebody is, by key, token or cookie; wrong keys are counted, and too many of them make an address wait."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Mapping

import structlog
from fastapi import HTTPException

from .api_keys import KeyStore, date
from .oidc import Issuer
from .scopes import CHALLENGE, SINGLE_USER, Principal
from .session import SINGLE_USER_NAME, Session

log = structlog.get_logger()

FAILURES_ALLOWED = 10
FAILURES_WINDOW_S = 60.0
NO_KEY = "an API key is needed: send the header Authorization: Apikey KEY"


class FailureLimit:
    """Counts wrong keys per address; at most `FAILURES_ALLOWED` in `FAILURES_WINDOW_S`, for at most 1024 addresses."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def record_failure(self, address: str) -> None:
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


class Authenticator:
    """Knows every way to prove who one is.

    Parameters
    ----------
    key
        The single-user key, which may do everything.
    store
        Keys of people and programs.
    issuer
        Identity provider whose tokens are taken, if any.
    """

    def __init__(self, key: str, store: KeyStore, issuer: Issuer | None = None) -> None:
        self._key = key.encode()
        self.store = store
        self._issuer = issuer
        self.session = Session(key)
        self._limit = FailureLimit()

    async def identify(self, given: str, address: str) -> Principal:
        """Return whose key or token this is.

        Raises
        ------
        HTTPException
            401 for a wrong or expired one, 429 after too many of them.
        """
        wait = self._limit.wait_s(address)
        if wait:
            headers = {"Retry-After": str(wait)}
            raise HTTPException(429, f"too many wrong keys from here; retry in {wait} s", headers)
        if hmac.compare_digest(given.encode(), self._key):
            return SINGLE_USER
        key = self.store.find(given)
        if key is not None and not key.expired:
            return key.principal()
        if key is not None:
            raise HTTPException(
                401,
                f"this API key expired on {date(key.expires)}; ask for a new one (quietbeam api-key create)",
                CHALLENGE,
            )
        error = HTTPException(401, "the API key is wrong", CHALLENGE)
        if self._issuer is not None and given.count(".") == 2:
            try:
                return await self._issuer.identify(given)
            except HTTPException as refusal:
                error = refusal
        self._limit.record_failure(address)
        log.warning("wrong_key", address=address, reason=error.detail)
        raise error

    def by_cookie(self, cookies: Mapping[str, str]) -> Principal | None:
        """Return whose session the cookies hold; None for no session, and for one whose key is gone."""
        whose = self.session.read(cookies.get(self.session.cookie, ""))
        if whose is None or whose == SINGLE_USER_NAME:
            return SINGLE_USER if whose else None
        key = self.store.get(whose)
        return key.principal() if key is not None and not key.expired else None

    def open_session(self, principal: Principal) -> str:
        """Return the cookie value of a new session."""
        return self.session.issue(principal.first_eight or SINGLE_USER_NAME, principal.expires)


def key_in(header: str) -> str | None:
    """Return the key or token in an ``Authorization`` header."""
    scheme, _, value = header.partition(" ")
    return value.strip() if scheme.lower() in ("apikey", "bearer") else None
