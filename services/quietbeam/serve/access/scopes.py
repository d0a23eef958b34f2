"""Scopes: what a key may do. Every address declares the scopes it needs; an address that declares none is closed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, HTTPException, params
from fastapi.openapi.models import APIKey, HTTPBearer
from fastapi.openapi.models import SecurityBase as SecurityModel
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection


class Scope(StrEnum):
    """API scope. Names follow Tiled."""

    READ_METADATA = "read:metadata"
    """Which runs there are, their state, evidence and events."""
    READ_DATA = "read:data"
    """Maps and the numbers in them."""
    WRITE_DATA = "write:data"
    """Denoise again, choose weights, pin, name regions."""
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


class _Credential(SecurityBase):
    """A way to send a key, for the OpenAPI document; the guard in front of all addresses reads it."""

    def __init__(self, name: str, model: SecurityModel) -> None:
        self.scheme_name, self.model = name, model

    def __call__(self) -> None:
        """Do nothing."""


_API_KEY = _Credential(
    "ApiKey",
    APIKey.model_validate({"in": "header", "name": "Authorization", "description": "`Authorization: Apikey KEY`"}),
)
_BEARER = _Credential("Bearer", HTTPBearer())


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


def authorize(
    connection: HTTPConnection,
    needed: SecurityScopes,
    _api_key: Annotated[None, Depends(_API_KEY)],
    _bearer: Annotated[None, Depends(_BEARER)],
) -> None:
    """Let a request through whose caller has the scopes of ``Security(authorize, scopes=[...])``.

    Raises
    ------
    HTTPException
        401 for nobody, 403 when the caller may not.
    """
    principal = principal_of(connection)
    if principal is NOBODY and connection.scope["type"] == "websocket":
        return  # a websocket may still send a key with its first message
    check(principal, frozenset(Scope(name) for name in needed.scopes))


def open_to_all() -> None:
    """Open an address to callers without a key, as ``Depends(open_to_all)``; the guard lists these addresses too."""


def declared_scopes(route: Any) -> frozenset[Scope] | None:
    """Return the scopes that a route declares, None where it is open to all.

    Raises
    ------
    LookupError
        The route declares nothing.
    """
    for dependency in getattr(route, "dependencies", ()):
        if isinstance(dependency, params.Security) and dependency.dependency is authorize:
            return frozenset(Scope(name) for name in dependency.scopes or ())
        if dependency.dependency is open_to_all:
            return None
    raise LookupError(f"{route!r} declares no scope")


def closed_by_default(connection: HTTPConnection) -> None:
    """Refuse an address that declares no scope; a dependency of the whole application.

    Raises
    ------
    HTTPException
        403.
    """
    try:
        declared_scopes(connection.scope.get("route"))
    except LookupError:
        raise HTTPException(403, "this address is closed: it names no scope") from None
