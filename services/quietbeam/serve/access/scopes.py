"""Scopes: what a key may do. Every address names the one it needs; an address that names none is closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from fastapi import HTTPException
from starlette.requests import HTTPConnection

F = TypeVar("F", bound=Callable[..., object])


class Scope(StrEnum):
    """One permission; the words are Tiled's where Tiled has them."""

    READ_METADATA = "read:metadata"
    """Which runs there are, their state, evidence and events."""
    READ_DATA = "read:data"
    """Maps and the numbers in them."""
    WRITE_DATA = "write:data"
    """Denoise again, choose weights, pin."""
    DELETE_DATA = "delete:data"
    """Delete runs."""
    METRICS = "metrics"
    """Prometheus metrics."""
    ADMIN_KEYS = "admin:apikeys"
    """List, create and revoke API keys."""


CHALLENGE = {"WWW-Authenticate": 'Apikey realm="quietbeam", Bearer realm="quietbeam"'}
READ = frozenset({Scope.READ_METADATA, Scope.READ_DATA, Scope.METRICS})
EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks.

    Attributes
    ----------
    name
        For people and the log.
    kind
        ``single_user``, ``api_key``, ``oidc``, ``anonymous`` or ``nobody``.
    expires
        Seconds since 1970, or None.
    first_eight
        Of the API key.
    """

    name: str
    kind: str
    scopes: frozenset[Scope]
    expires: float | None = None
    first_eight: str | None = None


SINGLE_USER = Principal(name="single user", kind="single_user", scopes=EVERYTHING)
ANONYMOUS = Principal(name="anonymous", kind="anonymous", scopes=READ)
NOBODY = Principal(name="nobody", kind="nobody", scopes=frozenset())


def needs(*scopes: Scope) -> Callable[[F], F]:
    """Say which scopes an address needs; none: whoever may come in at all."""

    def mark(endpoint: F) -> F:
        endpoint.needs = frozenset(scopes)  # type: ignore[attr-defined]
        return endpoint

    return mark


def open_to_all(endpoint: F) -> F:
    """Open an address to people without a key; the guard has the list of them too."""
    endpoint.needs = None  # type: ignore[attr-defined]
    return endpoint


def principal_of(connection: HTTPConnection) -> Principal:
    """Return who asks, as the guard found out."""
    principal: Principal = connection.scope.get("state", {}).get("principal", NOBODY)
    return principal


def check(principal: Principal, wanted: frozenset[Scope]) -> None:
    """Refuse who lacks a scope.

    Raises
    ------
    HTTPException
        401 for nobody, 403 for somebody who may not.
    """
    if principal is NOBODY:
        raise HTTPException(401, "an API key is needed: send the header Authorization: Apikey KEY")
    missing = sorted(wanted - principal.scopes)
    if missing:
        has = ", ".join(sorted(principal.scopes)) or "nothing"
        raise HTTPException(
            403, f"this needs the scope {', '.join(missing)}, {principal.name} has {has}; use a key that has it"
        )


def authorize(connection: HTTPConnection) -> None:
    """Let a request through to an address whose scope the caller has; the first dependency of every address.

    Raises
    ------
    HTTPException
        403 when the caller may not, or the address names no scope.
    """
    endpoint = connection.scope.get("endpoint")
    try:
        wanted: frozenset[Scope] | None = endpoint.needs  # type: ignore[union-attr]
    except AttributeError:
        raise HTTPException(403, "this address is closed: it names no scope") from None
    principal = principal_of(connection)
    if wanted is None or (principal is NOBODY and connection.scope["type"] == "websocket"):
        return  # a websocket may still say who it is, with its first message
    check(principal, wanted)
