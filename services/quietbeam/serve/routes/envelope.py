"""Sending an answer, the errors that every address can answer with, ETags."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import Request, Response
from pydantic import BaseModel

from quietbeam.serve.answers.actions import ActionAnswer
from quietbeam.serve.answers.envelope import Answer


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
    400: {**PROBLEM, "description": "A parameter is not valid."},
    401: {**PROBLEM, "description": "No or a wrong API key."},
    403: {**PROBLEM, "description": "The key lacks the scope."},
    404: {**PROBLEM, "description": "No such run, line or map (yet)."},
    406: {**PROBLEM, "description": "Format not supported; the detail lists the supported formats."},
    409: {**PROBLEM, "description": "Not possible in the present state; the detail gives the reason."},
    413: {**PROBLEM, "description": "The body is too large."},
    422: {**PROBLEM, "description": "A parameter is unknown or out of range; `errors` lists them."},
    429: {**PROBLEM, "description": "Too many wrong keys; Retry-After says when to try again."},
    503: {**PROBLEM, "description": "Redis is needed and cannot be reached, or there are too many viewers."},
}
ACCEPTED: dict[str, Any] = {
    "model": ActionAnswer,
    "description": "The action is queued. Poll the address in Location for its state.",
}


def answer(body: Answer[Any, Any], *, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    """Return the JSON of an answer; NaN becomes null."""
    sent = {"links": {}, **body.model_dump(exclude_unset=True, by_alias=True)}
    text = orjson.dumps(sent, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(text, status, media_type="application/json", headers=headers)


def base(request: Request) -> str:
    """Return the path of the API as the caller sees it."""
    root: str = request.scope.get("root_path", "")
    return f"{root}/api/v1"


def etag(tag: str) -> str:
    """Return the ETag of `tag`, which may hold any character: headers are Latin-1."""
    return f'"{quote(tag, safe=":,=&.-_~ ")}"'


def path_of(name: str) -> str:
    """Return a name, which may hold any character, as one part of an address."""
    return quote(name, safe="")


def attachment(filename: str) -> str:
    """Return the Content-Disposition under whose name a browser saves an answer (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", filename)
    encoded = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{encoded}'


def unchanged(request: Request, tag: str) -> bool:
    """True when the caller already has `tag`."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag(tag) in {part.strip().removeprefix("W/") for part in known.split(",")}


def not_modified(tag: str) -> Response:
    """Return the answer to a caller who already has `tag`."""
    return Response(status_code=304, headers={"ETag": etag(tag)})
