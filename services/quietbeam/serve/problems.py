"""Every error as ``application/problem+json`` (RFC 9457), with `detail` where Tiled's and blueapi's clients look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
import redis
import structlog
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from quietbeam.core.errors import (
    BufferConflictError,
    DamagedRunError,
    DataNotReadyError,
    InputError,
    NotMeasuredError,
    QuietbeamError,
    ServiceError,
    WeightsError,
)

from .paths import allowed_at, path_in

log = structlog.get_logger()

STATUS: dict[type[QuietbeamError], int] = {
    InputError: 400,
    NotMeasuredError: 404,
    BufferConflictError: 409,
    DamagedRunError: 409,
    DataNotReadyError: 503,
    WeightsError: 503,
    ServiceError: 503,
    QuietbeamError: 500,
}
MEDIA_TYPE = "application/problem+json"
Handler = Callable[[Any, Exception], Awaitable[Response]]


def problem_body(status: int, detail: str, instance: str, **more: Any) -> bytes:
    """Return the JSON of a problem."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": instance, **more}
    return orjson.dumps(body)


def _answer(request: Request, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    body = problem_body(status, detail, request.url.path, **more)
    return Response(body, status, media_type=MEDIA_TYPE, headers=headers)


async def _quietbeam_error(request: Request, error: Exception) -> Response:
    status = next(code for family, code in STATUS.items() if isinstance(error, family))
    if isinstance(error, DamagedRunError):
        await run_in_threadpool(request.app.state.services.catalog.note_damage, error)
    headers = {"Retry-After": "1"} if status == 503 else None
    return _answer(request, status, str(error) or HTTPStatus(status).phrase, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    detail = error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = "nothing is served at this address; the API begins at api/v1/"
    headers = dict(error.headers) if error.headers else {}
    if error.status_code == 400 and detail == "There was an error parsing the body":
        detail = "the body is not JSON in UTF-8"
    if error.status_code == 405:
        headers["Allow"] = _allowed(request)
        detail = f"{request.method} is not possible here; possible is {headers['Allow']}"
    return _answer(request, error.status_code, detail, headers)


def _allowed(request: Request) -> str:
    """Return the methods of an address; the router names only those of the first route that has it."""
    return ", ".join(sorted(allowed_at(path_in(request.scope), request.app.state.scopes))) or "GET"


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
    sentences, errors = [], []
    for one in error.errors():
        whole = _of_whole_body(request, one)
        place = ".".join(str(part) for part in one["loc"][1:] or one["loc"])
        sentences.append(whole or f"{place}: {one['msg']}")
        errors.append({"loc": one["loc"], "msg": whole or one["msg"], "type": one["type"]})
    return _answer(request, 422, "; ".join(sentences), errors=errors)


def _of_whole_body(request: Request, error: dict[str, Any]) -> str:
    """Return what is wrong with a body as a whole; empty where it is a field of it, or a parameter."""
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error.get('ctx', {}).get('error', '')} at character {error['loc'][-1] + 1}"
    if error["loc"] != ("body",):
        return ""
    if error["type"] == "missing":
        return "the request has no body: send a JSON object with the header Content-Type: application/json"
    sent = request.headers.get("content-type", "")
    if not _is_json(sent):
        found = f"it is {sent[:64]!r}" if sent else "it is missing"
        return f"the body is JSON only with the header Content-Type: application/json; {found}"
    return "the body must be a JSON object, as {...}"


def _is_json(media_type: str) -> bool:
    kind = media_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _redis_error(request: Request, error: Exception) -> Response:
    log.warning("redis_unusable", error=str(error))
    return _answer(request, 503, "the Redis server cannot be reached; retry in a moment", {"Retry-After": "2"})


async def _unexpected(request: Request, error: Exception) -> Response:
    request_id = str(getattr(request.state, "request_id", ""))
    log.error("request_failed", path=request.url.path, request_id=request_id, exc_info=error)
    detail = f"an error inside quietbeam; its log has the details at request_id {request_id}"
    return _answer(request, 500, detail, {"x-request-id": request_id})


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""
    handlers: dict[type[Exception], Handler] = {
        QuietbeamError: _quietbeam_error,
        StarletteHTTPException: _http_error,
        HTTPException: _http_error,
        RequestValidationError: _validation_error,
        WebSocketRequestValidationError: _validation_error,
        redis.RedisError: _redis_error,
        Exception: _unexpected,
    }
    for family, handler in handlers.items():
        app.add_exception_handler(family, handler)
