"""The hub: one reader of the stream ``qb:events`` for all viewers of this process.

A viewer holds nothing but the id of the last event it was sent. It is served from the newest events kept in memory, or,
when it is further behind, from Redis itself; so a slow viewer costs no memory. The stream id is the id of the
server-sent event: a viewer that comes back with ``Last-Event-ID`` misses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import redis.asyncio
import structlog

from quietbeam.core.errors import ServiceError
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import entries

from ..background import keep_running
from .server_events import ZERO, EventId, ServerEvent

log = structlog.get_logger()

RECENT = 2048
"""Events that are kept in memory."""
PAGE = 256
HEARTBEAT_S = 5.0
SEND_TIMEOUT_S = 20.0
"""A viewer that takes longer to read what it is sent is dropped."""
MAX_VIEWERS = 256
_BLOCK_MS = 1000


class EventHub:
    """Reads the event stream once for every viewer of this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.count_failure: Callable[[str], None] = lambda _: None
        """Gets the name of a task of the hub that failed; it begins again."""
        self._recent: deque[ServerEvent] = deque(maxlen=RECENT)
        self._newest = ZERO
        self._floor = ZERO
        """Every event after this id is in `_recent`."""
        self._changed = asyncio.Event()
        self._closing = self._begun = False
        self._task: asyncio.Task[None] | None = None
        self._redis: redis.asyncio.Redis | None = None
        self.connected = False
        self.viewers = 0
        self.dropped = 0

    async def start(self) -> None:
        """Start the reader."""
        self._redis = redis.asyncio.Redis.from_url(self._url, socket_timeout=10, socket_connect_timeout=5)
        self._task = asyncio.create_task(
            keep_running("event-reader", self._read, self.count_failure, is_closing=lambda: self._closing),
            name="event-reader",
        )

    @property
    def closing(self) -> bool:
        """True once the streams are ended for good."""
        return self._closing

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
        newest = EventId.parse(last[0][0].decode()) if last else ZERO
        if self._newest == ZERO or newest < self._newest:  # first start, or Redis came back without its data
            self._recent.clear()
            self._newest = self._floor = newest
        self.connected = self._begun = True
        self._wake()

    async def _read_page(self) -> None:
        assert self._redis is not None
        reply: Any = await self._redis.xread({keys.EVENTS: str(self._newest)}, count=PAGE, block=_BLOCK_MS)
        if not reply:
            return
        for _, entry in entries(reply):
            event = ServerEvent.from_entry(entry.id, entry.fields)
            if len(self._recent) == self._recent.maxlen:
                self._floor = self._recent[0].id or self._floor
            self._recent.append(event)
            self._newest = event.id or self._newest
        self._wake()

    # --- viewers ------------------------------------------------------------------------------------------------

    async def follow(self, run: str | None, last_id: str | None) -> AsyncIterator[list[ServerEvent]]:
        """Yield events of a run (None: of all runs): ``hello``, then what follows `last_id` (None: from now on).

        A ``heartbeat`` follows `HEARTBEAT_S` without any event. ``reset`` tells a viewer that events are lost, so that
        it reads the states again.
        """
        position = self._newest
        wanted = EventId.parse(last_id) if last_id else None
        if wanted is not None:
            if wanted > self._newest or await self._was_trimmed(wanted):
                yield [ServerEvent(type="reset")]
            else:
                position = wanted
        yield [ServerEvent(type="hello", id=position, data=self._pulse())]
        async for batch in self._batches(position):
            found = [event for event in batch if run is None or event.run in (run, None)]
            if found:
                yield found
            elif not batch:
                yield [ServerEvent(type="heartbeat", data=self._pulse())]

    def after(self, position: EventId) -> AsyncIterator[list[ServerEvent]]:
        """Return what follows `position` (ZERO: all that Redis has kept), until the service ends."""
        return self._batches(position)

    async def changes(self, run: str, position: EventId) -> AsyncGenerator[bool, None]:
        """Yield True whenever something may have happened to a run after `position`; ends with the service."""
        async for batch in self._batches(position):
            # an empty batch: an event may have been lost with Redis, so the state is read anyway
            if not batch or any(event.run in (run, None) for event in batch):
                yield True

    @property
    def newest(self) -> EventId:
        """Id of the newest event that was read."""
        return self._newest

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Count a viewer for as long as it follows; TimeoutError ends it as one that stopped reading."""
        self.viewers += 1
        try:
            yield
        except TimeoutError:
            self.dropped += 1
            log.warning("viewer_dropped", reason="it stopped reading", seconds=SEND_TIMEOUT_S)
        finally:
            self.viewers -= 1

    def check_capacity(self) -> None:
        """Refuse another viewer when there are too many.

        Raises
        ------
        ServiceError
            `MAX_VIEWERS` follow already.
        """
        if self.viewers >= MAX_VIEWERS:
            raise ServiceError(f"{MAX_VIEWERS} viewers follow the events already; close some pages or retry later")

    async def _batches(self, position: EventId) -> AsyncIterator[list[ServerEvent]]:
        """Yield what follows `position`, in order, until the service ends; nothing after `HEARTBEAT_S` without any."""
        while not self._closing:
            changed = self._changed
            if self._newest < position:  # Redis lost its data
                position = self._newest
                yield [ServerEvent(type="reset", id=position)]
            batch = await self._after(position)
            if batch:
                position = batch[-1].id or position
                yield batch
                continue
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await changed.wait()
            except TimeoutError:
                yield []

    def _pulse(self) -> dict[str, Any]:
        return {"time": time.time(), "redis": self.connected}

    async def _after(self, position: EventId) -> list[ServerEvent]:
        if position >= self._newest:
            return []
        if position >= self._floor:
            # From the newest back: viewers are near the end, and there are many of them.
            missed = list(takewhile(lambda event: (event.id or ZERO) > position, reversed(self._recent)))
            return missed[: -PAGE - 1 : -1]
        assert self._redis is not None
        try:
            found: Any = await self._redis.xrange(keys.EVENTS, min=f"({position}", count=PAGE)
        except (redis.RedisError, OSError):
            return []
        return [ServerEvent.from_entry(entry_id, entry) for entry_id, entry in found]

    async def _was_trimmed(self, position: EventId) -> bool:
        """True when events after `position` may have left the stream; then `position` itself has."""
        if self._begun and position >= self._floor:
            return False
        assert self._redis is not None
        try:
            first: Any = await self._redis.xrange(keys.EVENTS, count=1)
        except (redis.RedisError, OSError):
            return True
        return not first or EventId.parse(first[0][0].decode()) > position
