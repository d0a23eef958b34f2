"""Maps pushed over a websocket, for programs that want every change: Tiled's messages, Tiled's manners."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter, HTTPException, Query, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from quietbeam.core.errors import QuietbeamError, ServiceError
from quietbeam.serve.access import Scope, principal_of
from quietbeam.serve.access.guard import address_of
from quietbeam.serve.access.scopes import NOBODY, check
from quietbeam.serve.live.streams import Envelope, MapStream
from quietbeam.serve.services import Services

from .map_query import find_run, known_kind
from .requires import requires

router = APIRouter(tags=["maps"])
AUTH_TIMEOUT_S = 10.0
MAX_STRANGERS = 64
EXPECTED_AUTH, REFUSED, NOT_POSSIBLE = 4001, 4003, 4004
Form = Annotated[Envelope, Query(description="How messages are packed.")]
Start = Annotated[int | None, Query(ge=0, le=2**53, description="First version wanted; 0: all that are kept.")]


@router.websocket("/runs/{uid}/stream", dependencies=requires(Scope.READ_DATA))
async def stream_run(
    websocket: WebSocket, uid: str, kind: str = "denoised", envelope_format: Form = "json", start: Start = None
) -> None:
    """Every change of a run's maps of one kind."""
    await _stream(websocket, uid, kind, envelope_format, start)


@router.websocket("/stream/single/{path:path}", dependencies=requires(Scope.READ_DATA))
async def stream_node(websocket: WebSocket, path: str, envelope_format: Form = "json", start: Start = None) -> None:
    """The same at the address where Tiled's own client looks: ``UID/KIND`` (it doubles the slash)."""
    uid, _, kind = path.replace("//", "/").strip("/").partition("/")
    await _stream(websocket, uid, kind, envelope_format, start)


async def _stream(websocket: WebSocket, uid: str, kind: str, envelope: Envelope, start: int | None) -> None:
    shared: Services = websocket.app.state.services
    if principal_of(websocket) is NOBODY:
        if shared.authenticator.strangers >= MAX_STRANGERS:
            raise ServiceError("too many websockets have not said who they are; send a key with the request, or retry")
        shared.authenticator.strangers += 1
        try:
            if not await _introduced(websocket, shared):
                return
        finally:
            shared.authenticator.strangers -= 1
    try:
        known = known_kind(kind)
        status, info = await asyncio.to_thread(find_run, shared, uid)
        stream = MapStream(
            catalog=shared.catalog,
            maps=shared.maps,
            hub=shared.hub,
            uid=status.uid,
            kind=known,
            envelope=envelope,
            start=start,
        )
        stream.check(info)
    except QuietbeamError as error:
        if websocket.client_state is not WebSocketState.CONNECTED:
            raise  # answered over HTTP, as everywhere else
        await websocket.close(NOT_POSSIBLE, str(error)[:120])
        return
    if websocket.client_state is not WebSocketState.CONNECTED:
        await websocket.accept()
    await stream.serve(websocket)


async def _introduced(websocket: WebSocket, shared: Services) -> bool:
    """Accept, and wait for the first message: ``{"type": "auth", "api_key": ...}`` or ``"access_token"``."""
    await websocket.accept()
    try:
        async with asyncio.timeout(AUTH_TIMEOUT_S):
            message = orjson.loads(await websocket.receive_text())
        given = message.get("api_key") or message.get("access_token")
        if message.get("type") != "auth" or not isinstance(given, str):
            raise ValueError
    except WebSocketDisconnect:
        return False
    except (TimeoutError, ValueError, AttributeError, KeyError):
        await websocket.close(EXPECTED_AUTH, 'expected {"type": "auth", "api_key": KEY} as the first message')
        return False
    try:
        check(await shared.authenticator.identify(given, address_of(websocket.scope)), frozenset({Scope.READ_DATA}))
    except (HTTPException, QuietbeamError) as error:
        detail = error.detail if isinstance(error, HTTPException) else str(error)
        await websocket.close(REFUSED, str(detail)[:120])
        return False
    return True
