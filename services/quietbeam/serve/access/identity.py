"""Who somebody is, by key, token or cookie; wrong keys are counted, and too many of them make an address wait."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
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


def network_of(address: str) -> str:
    """Return what counts as one caller: an address of IPv4, a network of 64 bits of IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


class FailureLimit:
    """Counts wrong keys in `FAILURES_WINDOW_S`: how often each was sent from an address, and how many different ones.

    At most `FAILURES_ALLOWED` of both; for at most 1024 addresses. A right key is none of its business: keys are too
    long to be guessed, and a program with an old key must not lock out the people at its address.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[tuple[float, bytes]]] = OrderedDict()

    def record_failure(self, address: str, key: str) -> None:
        """Note a wrong key."""
        network = network_of(address)
        times = self._failures.setdefault(network, deque(maxlen=FAILURES_ALLOWED**2))
        times.append((time.monotonic(), _digest(key)))
        self._failures.move_to_end(network)
        while len(self._failures) > 1024:
            self._failures.popitem(last=False)

    def wait_s(self, address: str, key: str) -> int:
        """Return how long the address must wait with this key; 0 when it may try."""
        now, digest = time.monotonic(), _digest(key)
        recent = [one for one in self._failures.get(network_of(address), ()) if one[0] > now - FAILURES_WINDOW_S]
        same = [at for at, other in recent if other == digest]
        last = {other: at for at, other in recent}  # of each key, when it was last sent
        for times in (same, sorted(last.values())):
            if len(times) >= FAILURES_ALLOWED:
                return max(1, int(times[-FAILURES_ALLOWED] + FAILURES_WINDOW_S - now) + 1)
        return 0


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()[:8]


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
        self.strangers = 0
        """Websockets that are open and have not yet said who they are."""

    async def identify(self, given: str, address: str) -> Principal:
        """Return whose key or token this is.

        Raises
        ------
        HTTPException
            401 for a wrong or expired one, 429 after too many of them.
        """
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
        if wait := self._limit.wait_s(address, given):
            raise HTTPException(429, f"too many wrong keys from here; retry in {wait} s", {"Retry-After": str(wait)})
        self._limit.record_failure(address, given)
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
