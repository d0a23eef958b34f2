"""Answers about keys and the caller."""

from __future__ import annotations

from pydantic import BaseModel, Field

from .envelope import Answer, Count, NoMeta, Resource


class Caller(BaseModel):
    """Who sent the request and what they may do."""

    name: str
    kind: str = Field(description="`single_user`, `api_key`, `oidc`, `anonymous` or `nobody`.")
    scopes: list[str]
    expires: float | None = Field(description="Seconds since 1970; null: never.")
    csrf: str | None = Field(description="Token that a page must send as X-CSRF with every change.")


class CallerAnswer(Answer[Resource[Caller], NoMeta]):
    """Who sent the request."""


class KeyInfo(BaseModel):
    """An API key."""

    user: str
    scopes: list[str]
    created: float = Field(description="Seconds since 1970.")
    expires: float | None = Field(description="Seconds since 1970; null: never.")
    expired: bool
    note: str
    secret: str = Field(default="", description="The key itself, only in the answer that creates it.")


class KeyAnswer(Answer[Resource[KeyInfo], NoMeta]):
    """One API key."""


class Revoked(BaseModel):
    """The key is revoked."""

    revoked: bool


class RevokedKeyAnswer(Answer[Resource[KeyInfo], Revoked]):
    """The key that was revoked."""


class KeysAnswer(Answer[list[Resource[KeyInfo]], Count]):
    """All API keys."""
