"""Redis Streams: the durable transport."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis

from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import TAP_PREFIX, Connection, GroupReader, Message, entries

from .source import ReceivedDocument

GROUP = "ingest"
_BATCH_BYTES = 32 * 2**20
"""About as much is received at once."""


class RedisSource:
    """The stream ``qb:docs``, at least once; unacknowledged documents come first after a restart."""

    name = "redis"

    def __init__(self, connection: Connection, *, stream: str = keys.DOCS, batch: int = 128) -> None:
        # One consumer reads all documents of a run, in order; no other may claim them while it runs.
        self._reader = GroupReader(connection, stream, GROUP, "ingest", idle_ms=3_600_000)
        self._most = self._batch = batch

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return up to a batch of documents; where they are large, fewer of them."""
        messages = self._reader.read(self._batch, max(1, int(timeout_s * 1000)))
        received = [_received(message) for message in messages]
        if received:
            mean = max(1, sum(len(document.payload) for document in received) // len(received))
            self._batch = min(self._most, 2 * self._batch, max(1, _BATCH_BYTES // mean))
        return received

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge in Redis."""
        if tokens:
            self._reader.acknowledge(list(tokens))

    def reset(self) -> None:
        """Read pending entries again; create the consumer group again when Redis lost it."""
        self._reader.restart()

    def close(self) -> None:
        """Do nothing: the connection belongs to the stage."""


class RedisTap:
    """Listens to the stream ``qb:docs`` in its own consumer group: no document is trimmed before the tap has read it.

    Parameters
    ----------
    history
        Begin with the documents that ingest has not yet acknowledged; otherwise with the next one.
    """

    name = "redis"

    def __init__(self, connection: Connection, *, history: bool = False, batch: int = 512) -> None:
        self._redis, self._batch = connection, batch
        self._group = TAP_PREFIX + uuid.uuid4().hex
        self._last: bytes | str = "0" if history else "$"
        self.reset()

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return up to a batch of documents."""
        block = max(1, int(timeout_s * 1000))
        try:
            reply: Any = self._redis.xreadgroup(
                self._group, "tap", {keys.DOCS: ">"}, count=self._batch, block=block, noack=True
            )
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self.reset()  # Redis lost the group together with the stream
            return []
        messages = [message for _, message in entries(reply)]
        if messages:
            self._last = messages[-1].id
        return [_received(message) for message in messages]

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Do nothing: the tap's group keeps no pending documents."""

    def reset(self) -> None:
        """Create the consumer group again, behind the last document that was read."""
        with suppress(redis.ResponseError):  # the group exists
            self._redis.xgroup_create(keys.DOCS, self._group, id=self._last, mkstream=True)
        self._redis.xgroup_createconsumer(keys.DOCS, self._group, "tap")

    def close(self) -> None:
        """Remove the group. The connection belongs to the caller."""
        with suppress(redis.RedisError):  # ingest removes abandoned groups
            self._redis.xgroup_destroy(keys.DOCS, self._group)


def _received(message: Message) -> ReceivedDocument:
    return ReceivedDocument(
        token=message.id,
        name=message.fields.get(b"name", b"").decode(errors="replace"),
        run=message.fields.get(b"run", b"").decode(errors="replace"),
        payload=message.fields.get(b"doc", b""),
    )
