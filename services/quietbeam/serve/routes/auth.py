"""Who one is here, and the keys of others."""

from __future__ import annotations

import time
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, HTTPException, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from quietbeam.serve.access import Scope, principal_of
from quietbeam.serve.access.api_keys import LONGEST_S, USER, ApiKey
from quietbeam.serve.access.session import cookies_in
from quietbeam.serve.answers.access import (
    Caller,
    CallerAnswer,
    KeyAnswer,
    KeyInfo,
    KeysAnswer,
    Revoked,
    RevokedKeyAnswer,
)
from quietbeam.serve.answers.envelope import Count, NoMeta, Resource
from quietbeam.serve.services import Shared

from .envelope import ERRORS, answer, base
from .requires import requires

log = structlog.get_logger()
router = APIRouter(prefix="/auth", tags=["auth"])
_REFUSED: Any = {400: ERRORS[400], 404: ERRORS[404]}
FirstEight = Annotated[str, Path(max_length=8, min_length=8, description="First eight characters of the key.")]


class NewKey(BaseModel):
    """A key that is to be made."""

    model_config = ConfigDict(extra="forbid")

    user: str = Field(max_length=64, json_schema_extra={"pattern": USER}, description="Whose key it is.")
    scopes: list[Scope] = Field(min_length=1, max_length=20, description="What it may do; a part of what you may do.")
    expires_in_s: float | None = Field(
        default=None,
        strict=True,
        ge=1,
        le=LONGEST_S,
        description="Seconds until it ends; null: with your own key, or never.",
    )
    note: str = Field(default="", max_length=200, description="What it is for.")


@router.get("/whoami", responses={200: {"model": CallerAnswer}}, dependencies=requires())
def whoami(request: Request, shared: Shared) -> Response:
    """Whose key this is and what it may do; a page finds here the token that its changes must carry as X-CSRF."""
    principal = principal_of(request)
    session = shared.authenticator.session
    cookie = cookies_in(request.headers.get("cookie", "")).get(session.cookie, "")
    in_page = "authorization" not in request.headers and session.read(cookie) is not None
    caller = Caller(
        name=principal.name,
        kind=principal.kind,
        scopes=sorted(principal.scopes),
        expires=principal.expires,
        csrf=session.csrf(cookie) if in_page else None,
    )
    data = Resource(id=principal.first_eight or principal.kind, type="principal", attributes=caller)
    body = CallerAnswer(data=data, links={"self": f"{base(request)}/auth/whoami"}, meta=NoMeta())
    return answer(body, headers={"Cache-Control": "no-store"})


@router.get("/apikeys", responses={200: {"model": KeysAnswer}, **_REFUSED}, dependencies=requires(Scope.ADMIN_KEYS))
def list_keys(request: Request, shared: Shared) -> Response:
    """Every key, without its secret."""
    keys = shared.authenticator.store.keys()
    here = f"{base(request)}/auth/apikeys"
    data = [_key_resource(key, here) for key in keys]
    return answer(KeysAnswer(data=data, links={"self": here}, meta=Count(count=len(keys))))


@router.post(
    "/apikeys",
    status_code=201,
    responses={201: {"model": KeyAnswer, "description": "The new key."}, 400: ERRORS[400], 413: ERRORS[413]},
    dependencies=requires(Scope.ADMIN_KEYS),
)
def create_key(request: Request, shared: Shared, body: NewKey) -> Response:
    """Make a key that may do a part of what you may do; its secret is in this answer and nowhere else."""
    creator = principal_of(request)
    beyond = sorted(set(body.scopes) - creator.scopes)
    if beyond:
        raise HTTPException(403, f"you cannot give what you do not have: {', '.join(beyond)}")
    expires = time.time() + body.expires_in_s if body.expires_in_s is not None else creator.expires
    if creator.expires is not None and expires is not None:
        expires = min(expires, creator.expires)
    secret, key = shared.authenticator.store.create(body.user, body.scopes, expires=expires, note=body.note)
    log.info("key_created", by=creator.name, user=key.user, first_eight=key.first_eight, scopes=key.scopes)
    here = f"{base(request)}/auth/apikeys"
    data = _key_resource(key, here)
    data.attributes.secret = secret
    there = f"{here}/{key.first_eight}"
    headers = {"Location": there, "Cache-Control": "no-store"}
    return answer(KeyAnswer(data=data, links={"self": there}, meta=NoMeta()), headers=headers, status=201)


@router.get(
    "/apikeys/{first_eight}", responses={200: {"model": KeyAnswer}, **_REFUSED}, dependencies=requires(Scope.ADMIN_KEYS)
)
def get_key(first_eight: FirstEight, request: Request, shared: Shared) -> Response:
    """One key, without its secret."""
    key = shared.authenticator.store.get(first_eight)
    if key is None:
        raise HTTPException(404, f"no API key begins with {first_eight!r}; api/v1/auth/apikeys lists them")
    return answer(KeyAnswer(data=_key_resource(key, f"{base(request)}/auth/apikeys"), meta=NoMeta()))


@router.delete(
    "/apikeys/{first_eight}",
    responses={200: {"model": RevokedKeyAnswer}, **_REFUSED},
    dependencies=requires(Scope.ADMIN_KEYS),
)
def revoke_key(first_eight: FirstEight, request: Request, shared: Shared) -> Response:
    """Revoke a key, and with it the sessions that it opened."""
    key = shared.authenticator.store.revoke(first_eight)
    log.info("key_revoked", by=principal_of(request).name, user=key.user, first_eight=first_eight)
    data = _key_resource(key, f"{base(request)}/auth/apikeys")
    return answer(RevokedKeyAnswer(data=data, meta=Revoked(revoked=True)))


def _key_resource(key: ApiKey, here: str) -> Resource[KeyInfo]:
    """Return a key as it is sent, without its secret."""
    info = KeyInfo(
        user=key.user,
        scopes=list(key.scopes),
        created=key.created,
        expires=key.expires,
        expired=key.expired,
        note=key.note,
    )
    return Resource(id=key.first_eight, type="api_key", attributes=info, links={"self": f"{here}/{key.first_eight}"})
