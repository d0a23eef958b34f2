"""Server-sent events: events of the hub in the form that browsers read."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus
from starlette.types import Receive, Scope, Send

from . import hub
from .server_events import EventId, ServerEvent

AppStatus.disable_automatic_graceful_drain()  # Server.shutdown ends the streams, with their last chunk
RETRY_MS = 1000
"""A browser whose stream ended comes back after this time."""


class EventStream(EventSourceResponse):
    """Response that writes a viewer's events and drops the viewer when it stops reading.

    Raises
    ------
    ServiceError
        Too many viewers.
    InputError
        `last_id` is not the id of an event.
    """

    def __init__(self, events: hub.EventHub, run: str | None, last_id: str | None) -> None:
        events.check_capacity()
        if last_id:
            EventId.parse(last_id)
        self._hub = events
        frames = encoded(events.follow(run, last_id))
        super().__init__(frames, sep="\n", ping=0, send_timeout=hub.SEND_TIMEOUT_S)  # heartbeats come from the hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the viewer leaves, stops reading, or the service stops."""
        with self._hub.viewer():
            await super().__call__(scope, receive, send)


async def encoded(batches: AsyncIterator[list[ServerEvent]]) -> AsyncIterator[bytes]:
    """Yield the frames of every batch of events in one piece."""
    async for batch in batches:
        yield b"".join(frame(event) for event in batch)


def frame(event: ServerEvent) -> bytes:
    """Return an event as it is sent."""
    return ServerSentEvent(
        event.json.decode(),
        event=event.type,
        id=None if event.id is None else str(event.id),
        retry=RETRY_MS if event.type == "hello" else None,
        sep="\n",
    ).encode()
