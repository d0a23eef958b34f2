"""The event stream: one reader of ``qb:events`` for all viewers; the stream id is the SSE id.

A viewer holds nothing but the id of the last event it was sent. It is served from the newest events kept in memory, or,
when it is further behind, from Redis itself; so a slow viewer costs no memory, and one that reads nothing for
`SEND_TIMEOUT_S` is dropped (its browser comes back with ``Last-Event-ID`` and misses nothing).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson
import redis.asyncio
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import entries

log = structlog.get_logger()

KEPT = 2048
PAGE = 256
HEARTBEAT_S = 5.0
SEND_TIMEOUT_S = 20.0
MAX_VIEWERS = 256
_BLOCK_MS = 1000
_ID = re.compile(r"^\d{1,15}(-\d{1,15})?$")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EventId:
    """Id of a stream entry: (milliseconds, sequence)."""

    ms: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Read ``1700000000000-0``.

        Raises
        ------
        InputError
            Not an id.
        """
        if not _ID.match(text):
            raise InputError(f"Last-Event-ID {text[:40]!r} is not the id of an event, as 1700000000000-0")
        ms, _, seq = text.partition("-")
        return cls(ms=int(ms), seq=int(seq or 0))

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of the stream; `frame` is what every viewer gets, made once."""

    id: EventId
    run: str
    frame: bytes

    @classmethod
    def from_entry(cls, entry_id: bytes, entry: Mapping[bytes, bytes]) -> Event:
        """Build from a stream entry; the run's uid joins the data."""
        run = entry.get(b"run", b"").decode(errors="replace")
        try:
            data = orjson.loads(entry.get(b"data") or b"{}")
        except orjson.JSONDecodeError:
            data = {}
        if not isinstance(data, dict):
            data = {"value": data}
        kind = entry.get(b"type", b"message").decode(errors="replace").replace("\n", " ").replace("\r", " ")
        found = EventId.parse(entry_id.decode())
        body = orjson.dumps({**data, "run": run})
        frame = b"id: %s\nevent: %s\ndata: %s\n\n" % (str(found).encode(), kind.encode(), body)
        return cls(id=found, run=run, frame=frame)


_ZERO = EventId(ms=0, seq=0)


class EventHub:
    """Reads the event stream once for every viewer of this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._newest = _ZERO
        self._floor = _ZERO
        """Every event after this id is in `_kept`."""
        self._changed = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._redis: redis.asyncio.Redis | None = None
        self.connected = False
        self.viewers = 0
        self.dropped = 0

    async def start(self) -> None:
        """Start the reader."""
        self._redis = redis.asyncio.Redis.from_url(self._url, socket_timeout=10, socket_connect_timeout=5)
        self._task = asyncio.create_task(self._read(), name="event-reader")

    def close_streams(self) -> None:
        """End every viewer's stream now (they come back to the next process)."""
        self._closing = True
        self._wake()

    async def stop(self) -> None:
        """End the streams and the reader."""
        self.close_streams()
        while self._task is not None and not self._task.done():
            self._task.cancel()  # again, should a client library have swallowed it
            await asyncio.wait({self._task}, timeout=2 * _BLOCK_MS / 1000)
        if self._redis is not None:
            await self._redis.aclose()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # --- the one reader -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while not self._closing:
            try:
                if not self.connected:
                    await self._begin()
                await self._read_page()
            except (redis.RedisError, OSError) as error:
                if self.connected:
                    log.warning("event_stream_lost", error=str(error))
                self.connected = False
                await asyncio.sleep(0.5)

    async def _begin(self) -> None:
        """Find the end of the stream; what came while Redis was away is read, not skipped."""
        assert self._redis is not None
        last: Any = await self._redis.xrevrange(keys.EVENTS, count=1)
        newest = EventId.parse(last[0][0].decode()) if last else _ZERO
        if self._newest == _ZERO or newest < self._newest:  # first start, or Redis came back without its data
            self._kept.clear()
            self._newest = self._floor = newest
        self.connected = True
        self._wake()

    async def _read_page(self) -> None:
        assert self._redis is not None
        reply: Any = await self._redis.xread({keys.EVENTS: str(self._newest)}, count=PAGE, block=_BLOCK_MS)
        if not reply:
            return
        for _, entry in entries(reply):
            event = Event.from_entry(entry.id, entry.fields)
            if len(self._kept) == self._kept.maxlen:
                self._floor = self._kept[0].id
            self._kept.append(event)
            self._newest = event.id
        self._wake()

    # --- viewers ------------------------------------------------------------------------------------------------

    async def follow(self, run: str | None, last_id: str | None) -> AsyncIterator[bytes]:
        """Yield SSE frames: first ``hello``, then every event after `last_id` (None: from now on), then heartbeats.

        ``reset`` tells a viewer that events it has not seen are gone, so that it reads the states again.
        """
        position = self._newest
        wanted = EventId.parse(last_id) if last_id else None
        if wanted is not None:
            if wanted > self._newest or await self._was_trimmed(wanted):
                yield b"event: reset\ndata: {}\n\n"
            else:
                position = wanted
        yield b"retry: 1000\nid: %s\nevent: hello\ndata: %s\n\n" % (str(position).encode(), self._pulse())
        while not self._closing:
            changed = self._changed
            if self._newest < position:  # Redis lost its data
                position = self._newest
                yield b"id: %s\nevent: reset\ndata: {}\n\n" % str(position).encode()
            batch = await self._after(position)
            if batch:
                position = batch[-1].id
                frames = b"".join(e.frame for e in batch if run is None or e.run == run)
                if frames:
                    yield frames
                continue
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await changed.wait()
            except TimeoutError:
                yield b"event: heartbeat\ndata: %s\n\n" % self._pulse()

    @property
    def newest(self) -> EventId:
        """Id of the newest event that was read."""
        return self._newest

    async def changes(self, run: str, position: EventId) -> AsyncGenerator[bool, None]:
        """Yield True whenever something may have happened to a run after `position`; ends with the service."""
        while not self._closing:
            changed = self._changed
            if self._newest < position:  # Redis lost its data
                position = self._newest
                yield True
            batch = await self._after(position)
            if batch:
                position = batch[-1].id
                if any(event.run == run for event in batch):
                    yield True
                continue
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await changed.wait()
            except TimeoutError:
                yield True  # an event may have been lost with Redis; the state is looked at anyway

    def _pulse(self) -> bytes:
        return orjson.dumps({"time": time.time(), "redis": self.connected})

    async def _after(self, position: EventId) -> list[Event]:
        if position >= self._newest:
            return []
        if position >= self._floor:
            # From the newest back: viewers are near the end, and there are many of them.
            missed = list(takewhile(lambda event: event.id > position, reversed(self._kept)))
            return missed[: -PAGE - 1 : -1]
        assert self._redis is not None
        try:
            found: Any = await self._redis.xrange(keys.EVENTS, min=f"({position}", count=PAGE)
        except (redis.RedisError, OSError):
            return []
        return [Event.from_entry(entry_id, entry) for entry_id, entry in found]

    async def _was_trimmed(self, position: EventId) -> bool:
        """True when events after `position` may have left the stream; then `position` itself has."""
        if position >= self._floor and self._floor != _ZERO:
            return False
        assert self._redis is not None
        try:
            first: Any = await self._redis.xrange(keys.EVENTS, count=1)
        except (redis.RedisError, OSError):
            return True
        return not first or EventId.parse(first[0][0].decode()) > position


class EventStream(Response):
    """Response that writes a viewer's frames and drops the viewer when it stops reading."""

    def __init__(self, hub: EventHub, run: str | None, last_id: str | None) -> None:
        if hub.viewers >= MAX_VIEWERS:
            raise ServiceError(f"{MAX_VIEWERS} viewers follow the events already; close some pages or retry later")
        if last_id:
            EventId.parse(last_id)
        super().__init__(media_type="text/event-stream")
        self._hub, self._run, self._last_id = hub, run, last_id

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames until the viewer leaves, stops reading, or the service stops."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        self._hub.viewers += 1
        gone = asyncio.create_task(_left(receive), name="viewer-left")
        writing = asyncio.create_task(self._write(send, headers), name="viewer-writing")
        try:
            await asyncio.wait({gone, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        except TimeoutError:
            self._hub.dropped += 1
            log.warning("viewer_dropped", reason="it did not read for a while", seconds=SEND_TIMEOUT_S)
        finally:
            self._hub.viewers -= 1
            for task in (gone, writing):
                task.cancel()
                with suppress(asyncio.CancelledError, TimeoutError):
                    await task

    async def _write(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for frame in self._hub.follow(self._run, self._last_id):
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
