"""``{data, links, meta}``, as Tiled answers."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, Field


class Envelope(BaseModel):
    """Body of every JSON answer."""

    data: Any = Field(description="What was asked for.")
    links: dict[str, str | None] = Field(default_factory=dict, description="Addresses that lead on.")
    meta: dict[str, Any] = Field(default_factory=dict, description="Counts and remarks.")


class Problem(BaseModel):
    """Body of every error (RFC 9457); `detail` is a sentence that says what to do."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


_SCHEMA = {"schema": {"$ref": "#/components/schemas/Problem"}}
PROBLEM: dict[str, Any] = {"content": {"application/problem+json": _SCHEMA}}
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {**PROBLEM, "description": "A parameter cannot be used."},
    401: {**PROBLEM, "description": "No or a wrong API key."},
    403: {**PROBLEM, "description": "The key lacks the scope."},
    404: {**PROBLEM, "description": "No such run, line or map (yet)."},
    406: {**PROBLEM, "description": "Not in this format; the detail lists what is possible."},
    409: {**PROBLEM, "description": "Not possible in the present state; the detail says what is in the way."},
    413: {**PROBLEM, "description": "The body is too large."},
    422: {**PROBLEM, "description": "A parameter is out of range; `errors` lists them."},
    429: {**PROBLEM, "description": "Too many wrong keys; Retry-After says when to try again."},
    503: {**PROBLEM, "description": "Redis is needed and away, or too many viewers."},
}
CREATED: dict[str, Any] = {"model": Envelope, "description": "Made."}
ACCEPTED: dict[str, Any] = {
    "model": Envelope,
    "description": "Asked of the stage that does it; Location says how it goes.",
}


def answer(
    data: Any,
    *,
    links: dict[str, str | None] | None = None,
    meta: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    """Return the JSON; NaN becomes null."""
    body = orjson.dumps(
        {"data": data, "links": links or {}, "meta": meta or {}},
        option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS,
    )
    return Response(body, status, media_type="application/json", headers=headers)


def base(request: Request) -> str:
    """Return the path of the API as the caller sees it."""
    root: str = request.scope.get("root_path", "")
    return f"{root}/api/v1"


def unchanged(request: Request, tag: str) -> bool:
    """True when the caller already has `tag`."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or f'"{tag}"' in {part.strip().removeprefix("W/") for part in known.split(",")}
