"""Server-sent events: a small message for every change; the maps are fetched."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from quietbeam.serve.access import Scope
from quietbeam.serve.live.sse import EventStream
from quietbeam.serve.services import Shared

from .envelope import ERRORS
from .requires import requires

router = APIRouter(tags=["events"])
_RESPONSES: Any = {
    200: {
        "description": "Types: hello, run, row, map, evidence, warning, heartbeat, reset (read the states again).",
        "content": {"text/event-stream": {}},
    },
    400: ERRORS[400],
    404: ERRORS[404],
}
LastId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=64, description="Resume after this event.")]


@router.get("/events", responses=_RESPONSES, response_class=Response, dependencies=requires(Scope.READ_METADATA))
async def all_events(shared: Shared, last_event_id: LastId = None) -> Response:
    """Events of every run."""
    return EventStream(shared.hub, None, last_event_id)


@router.get(
    "/runs/{uid}/events", responses=_RESPONSES, response_class=Response, dependencies=requires(Scope.READ_METADATA)
)
async def run_events(uid: str, shared: Shared, last_event_id: LastId = None) -> Response:
    """Events of one run; ``latest`` is the run that is newest when the stream begins."""
    found = await asyncio.to_thread(lambda: shared.catalog.status(shared.catalog.resolve(uid)).uid)
    return EventStream(shared.hub, found, last_event_id)
