"""How documents reach Redis: batches in one transaction each, and patience for large ones on slow links."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import redis

from quietbeam.core.wire import bus, keys

from .spool import Record

_TIMEOUT_S = 2.0
_SLOWEST_BYTES_S = 1_000_000
"""A link that brings less is taken for an outage."""
_SMALL_BYTES = 256 * 1024


class RedisLink:
    """A connection of the publisher's thread; every method may raise `redis.RedisError`.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._redis = self._connect(_TIMEOUT_S)
        self._patient, self._patience_s = self._redis, _TIMEOUT_S

    def send(self, records: Sequence[Record]) -> None:
        """Append documents to the stream ``qb:docs``: all of them, or none."""
        with self._client_for(sum(len(record.doc) for record in records)).pipeline(transaction=True) as pipe:
            for record in records:
                pipe.xadd(keys.DOCS, {"name": record.name, "run": record.run, "doc": record.doc})
            pipe.execute()

    def server_name(self) -> str:
        """Return the name that the server keeps of itself, whatever URL it is reached by; '' when it keeps none."""
        self._redis.set(keys.SERVER, uuid.uuid4().hex, nx=True)
        name: Any = self._redis.get(keys.SERVER) or b""
        return str(name.decode("ascii"))

    def warn(self, run: str, reason: str) -> None:
        """Let people know of a run's loss."""
        bus.emit(self._redis, "warning", run, name="publisher", reason=reason)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
        self._patient.close()

    def _connect(self, timeout_s: float) -> redis.Redis:
        return redis.Redis.from_url(self._url, socket_timeout=timeout_s, socket_connect_timeout=1)

    def _client_for(self, size: int) -> redis.Redis:
        """Return a client that waits long enough for `size` bytes on a slow link; an outage is noticed as late."""
        needed_s = _TIMEOUT_S + size / _SLOWEST_BYTES_S
        if size <= _SMALL_BYTES:
            return self._redis
        if needed_s > self._patience_s:
            if self._patient is not self._redis:
                self._patient.close()
            self._patient, self._patience_s = self._connect(needed_s), needed_s
        return self._patient
