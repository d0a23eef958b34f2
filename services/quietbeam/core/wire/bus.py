"""Redis Streams: connections, consumer groups that claim before they read, trimming without loss, events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import redis
import structlog

from ..errors import InputError
from . import keys

log = structlog.get_logger()

BLOCK_MS = 1000
EVENTS_KEPT_S = 3600
TAP_PREFIX = "tap-"
"""Groups of this name only listen: they hold back trimming while they read, but not for ever."""
TAP_IDLE_S = 600
"""A tap that has not read for so long is abandoned."""

Connection = redis.Redis


def connect(url: str) -> Connection:
    """Return a client whose socket timeout is above every blocking read (redis-py 8 defaults to 5 s).

    Raises
    ------
    InputError
        `url` is none; it is not shown, for it may hold a password.
    """
    try:
        return redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5, health_check_interval=15)
    except ValueError as error:
        raise InputError(f"redis.url (or REDIS_URL) cannot be used: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One stream entry."""

    id: bytes
    fields: Mapping[bytes, bytes]


class GroupReader:
    """Reads a stream as one consumer of a group, at least once: claims what others left, then reads what is new.

    Parameters
    ----------
    connection
        Redis client.
    stream, group, consumer
        Names. The same consumer name after a restart gets its own unacknowledged entries back first.
    idle_ms
        Entries of *other* consumers that stay unacknowledged for so long are claimed.
    """

    def __init__(
        self, connection: Connection, stream: str, group: str, consumer: str, *, idle_ms: int = 30_000
    ) -> None:
        self._redis = connection
        self._stream, self._group, self._consumer, self._idle_ms = stream, group, consumer, idle_ms
        self._unacknowledged_from: str | None = "0"
        self._next_claim = 0.0
        self._ensure_group()

    def _ensure_group(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def restart(self) -> None:
        """Read this consumer's pending entries again (after Redis came back, or after an error)."""
        self._unacknowledged_from = "0"
        self._ensure_group()

    def read(self, count: int = 256, block_ms: int = BLOCK_MS) -> list[Message]:
        """Return up to `count` entries: own pending ones, then abandoned ones of others, then new ones."""
        try:
            if self._unacknowledged_from is not None:
                messages = self._pending(count)
                if messages:
                    return messages
                self._unacknowledged_from = None
            if time.monotonic() >= self._next_claim:
                messages = self._claim(count)
                if messages:
                    return messages
            reply: Any = self._redis.xreadgroup(
                self._group, self._consumer, {self._stream: ">"}, count=count, block=block_ms or None
            )
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            log.warning("consumer_group_lost", stream=self._stream, group=self._group)
            self.restart()
            return []
        return [message for _, message in entries(reply) if message.fields]

    def _pending(self, count: int) -> list[Message]:
        assert self._unacknowledged_from is not None
        reply: Any = self._redis.xreadgroup(
            self._group, self._consumer, {self._stream: self._unacknowledged_from}, count=count
        )
        everything = [message for _, message in entries(reply)]
        if everything:
            self._unacknowledged_from = everything[-1].id.decode()
        trimmed = [message.id for message in everything if not message.fields]
        if trimmed:
            self.acknowledge(trimmed)
            log.error("pending_entries_deleted", stream=self._stream, n=len(trimmed))
        return [message for message in everything if message.fields]

    def _claim(self, count: int) -> list[Message]:
        cursor: Any = "0-0"
        messages: list[Message] = []
        while True:
            reply: Any = self._redis.xautoclaim(
                self._stream, self._group, self._consumer, self._idle_ms, start_id=cursor, count=count
            )
            cursor, batch, *rest = reply
            if rest and rest[0]:
                log.error("pending_entries_deleted", stream=self._stream, n=len(rest[0]))
            messages += [Message(id=i, fields=f) for i, f in batch if f]
            if cursor in (b"0-0", "0-0") or len(messages) >= count:
                break
        if cursor in (b"0-0", "0-0"):
            self._next_claim = time.monotonic() + self._idle_ms / 2000
        return messages

    def acknowledge(self, ids: list[bytes]) -> None:
        """Acknowledge entries whose effect is on disk."""
        for first in range(0, len(ids), 512):
            self._redis.xack(self._stream, self._group, *ids[first : first + 512])


def entries(reply: Any) -> Iterator[tuple[str, Message]]:
    """Yield (stream, entry) of an XREAD or XREADGROUP reply, whichever protocol version shaped it.

    Entries that were deleted while they were pending have no fields.
    """
    for stream, batch in reply.items() if isinstance(reply, dict) else reply or ():
        if isinstance(reply, dict) and batch and isinstance(batch[0], list):
            batch = batch[0]
        for entry_id, entry_fields in batch:
            yield stream.decode(), Message(id=entry_id, fields=entry_fields or {})


def trim_acknowledged(connection: Connection, stream: str) -> int:
    """Delete entries that every group has acknowledged; return how many. Never trims by length.

    The limit is the smallest of, over all groups, the oldest pending id, or (nothing pending) the last delivered id.
    Abandoned taps are removed.
    """
    limits: list[tuple[int, int]] = []
    for group in connection.xinfo_groups(stream):
        if group["name"].startswith(TAP_PREFIX.encode()) and _is_abandoned(connection, stream, group["name"]):
            connection.xgroup_destroy(stream, group["name"])
            log.warning("tap_abandoned", stream=stream, group=group["name"].decode(), idle_s=TAP_IDLE_S)
            continue
        pending: Any = connection.xpending(stream, group["name"])
        oldest = pending["min"] if pending and pending["pending"] else group["last-delivered-id"]
        milliseconds, _, sequence = (oldest.decode() if isinstance(oldest, bytes) else str(oldest)).partition("-")
        limits.append((int(milliseconds), int(sequence or 0)))
    if not limits:
        return 0
    low = min(limits)
    return int(connection.xtrim(stream, minid=f"{low[0]}-{low[1]}", approximate=False))


def _is_abandoned(connection: Connection, stream: str, group: bytes) -> bool:
    consumers: Any = connection.xinfo_consumers(stream, group)
    return all(consumer["idle"] > 1000 * TAP_IDLE_S for consumer in consumers)


def trim_older(connection: Connection, stream: str, seconds: float = EVENTS_KEPT_S) -> None:
    """Drop entries older than `seconds` from a stream whose loss costs nothing (wake-ups, display events)."""
    now: Any = connection.time()
    connection.xtrim(stream, minid=max(0, int((now[0] - seconds) * 1000)), approximate=True)


def emit(connection: Connection, event_type: str, run: str, **data: Any) -> None:
    """Append to the event stream that the API serves (types: run, row, map, evidence, warning, action)."""
    connection.xadd(
        keys.EVENTS,
        {"type": event_type, "run": run, "data": orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)},
    )


def quarantine(connection: Connection, *, run: str, name: str, reason: str, payload: bytes = b"") -> None:
    """Set aside what could not be used, with the reason; at most 64 kB of it, at most about 10 000 entries."""
    connection.xadd(
        keys.QUARANTINE,
        {"run": run, "name": name, "reason": reason, "doc": payload[:65536]},
        maxlen=10_000,
        approximate=True,
    )
    emit(connection, "warning", run, name=name, reason=reason)
