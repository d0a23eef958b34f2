"""Bearer tokens of the facility's identity provider (OpenID Connect): checked here, never made here."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import jwt
import structlog
from fastapi import HTTPException

from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import NetworkSettings, OidcSettings
from quietbeam.core.wire.web import client_options

from .scopes import CHALLENGE, Principal, Scope

log = structlog.get_logger()

KEYS_KEPT_S = 3600.0
REFETCH_S = 30.0
_LEEWAY_S = 10
_Key = tuple[Any, str | None]
_TIMEOUT = httpx.Timeout(5.0)
_MAX_BYTES = 2**20
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key alone: with ``none`` or a shared secret anybody could sign."""


class Issuer:
    """The identity provider, with its keys as they were when last looked up.

    Keys are looked up when they are an hour old, or when a token names one that is not there, but then at most twice a
    minute, so that forged tokens make no traffic.
    """

    def __init__(self, settings: OidcSettings, network: NetworkSettings | None = None) -> None:
        self._settings, self._network = settings, network or NetworkSettings()
        self._keys: dict[str | None, _Key] = {}
        self._fetched_at = -KEYS_KEPT_S
        self._lock = asyncio.Lock()

    async def identify(self, token: str) -> Principal:
        """Return whose token this is.

        Raises
        ------
        HTTPException
            401, with the reason.
        ServiceError
            The provider cannot be reached.
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise _refused("it is no JSON web token") from error
        if header.get("alg") not in ALGORITHMS:
            raise _refused(f"its algorithm {str(header.get('alg'))[:20]!r} is not allowed")
        key, algorithm = await self._key(header.get("kid"))
        if algorithm is not None and algorithm != header["alg"]:
            raise _refused(f"its key is for {algorithm}")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise _refused("it has expired") from error
        except jwt.PyJWTError as error:
            raise _refused(str(error)) from error
        except (TypeError, ValueError) as error:  # PyJWT, of a key of another kind than the algorithm's
            raise _refused("its key is not one of its algorithm") from error
        return self._principal(claims)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        given = claims.get(self._settings.claim, ())
        groups = given.split() if isinstance(given, str) else [group for group in given if isinstance(group, str)]
        scopes = set(self._settings.everyone)
        for group in groups:
            scopes |= set(self._settings.grants.get(group, ()))
        name = next((claims[name] for name in ("preferred_username", "email") if claims.get(name)), claims["sub"])
        return Principal(
            name=str(name)[:64],
            kind="oidc",
            scopes=frozenset(Scope(scope) for scope in scopes),
            expires=float(claims["exp"]),
        )

    async def _key(self, key_id: Any) -> _Key:
        async with self._lock:
            age = time.monotonic() - self._fetched_at
            if age >= KEYS_KEPT_S or (key_id not in self._keys and age >= REFETCH_S):
                self._keys, self._fetched_at = await self._fetch_keys(), time.monotonic()
            key = self._keys.get(key_id)
        if key is None:
            raise _refused("the issuer has no such key")
        return key

    async def _fetch_keys(self) -> dict[str | None, _Key]:
        """Return the issuer's public keys by their id, found by discovery."""
        issuer = self._settings.issuer.rstrip("/")
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT, **client_options(self._network)) as http:
                about = await _json(http, f"{issuer}/.well-known/openid-configuration")
                if about.get("issuer") != self._settings.issuer:
                    raise ServiceError(
                        f"the identity provider calls itself {str(about.get('issuer'))[:100]!r}, serve.oidc.issuer "
                        f"says {self._settings.issuer!r}; they must be equal"
                    )
                address = str(about["jwks_uri"])
                if address.startswith("http://") and not issuer.startswith("http://"):
                    raise ServiceError("the identity provider's keys (jwks_uri) do not come over https")
                found = await _json(http, address)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            log.warning("oidc_issuer_away", issuer=issuer, error=f"{type(error).__name__}: {error}")
            raise ServiceError(
                "the identity provider cannot be asked for its keys; try again, or use an API key"
            ) from error
        keys: dict[str | None, _Key] = {}
        for entry in found.get("keys", ()):
            try:
                if entry.get("use", "sig") == "sig" and entry.get("kty") != "oct":
                    keys[entry.get("kid")] = jwt.PyJWK(entry).key, entry.get("alg")
            except (jwt.PyJWTError, AttributeError) as error:
                log.warning("oidc_key_refused", error=str(error))
        return keys


async def _json(http: httpx.AsyncClient, address: str) -> dict[str, Any]:
    answer = (await http.get(address)).raise_for_status()
    if len(answer.content) > _MAX_BYTES:
        raise ValueError("the answer is too large")
    body = answer.json()
    if not isinstance(body, dict):
        raise ValueError("the answer is no JSON object")
    return body


def _refused(why: str) -> HTTPException:
    return HTTPException(401, f"the token is refused: {why}; get a new one from the identity provider", CHALLENGE)
