"""Reads the stream that says which rows were committed."""

from __future__ import annotations

from typing import Any

import structlog

from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection, entries

log = structlog.get_logger()


class RowWakeUps:
    """Follows the stream ``qb:rows`` from its end."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection
        self._cursor: bytes | None = None

    @property
    def started(self) -> bool:
        """True after :meth:`start`."""
        return self._cursor is not None

    def start(self) -> None:
        """Follow the stream from its present end."""
        newest: Any = self._redis.xrevrange(keys.ROWS, count=1)
        self._cursor = newest[0][0] if newest else b"0-0"

    def reset(self) -> None:
        """Forget the position: after an outage wake-ups may be lost."""
        self._cursor = None

    def read(self, block_ms: int) -> dict[str, set[int]]:
        """Return the rows committed since the last call, by run; wait at most ``block_ms`` for one."""
        found: dict[str, set[int]] = {}
        reply: Any = self._redis.xread({keys.ROWS: self._cursor or b"0-0"}, count=4096, block=block_ms or None)
        for _, entry in entries(reply):
            self._cursor = entry.id
            try:
                uid, row = entry.fields[b"run"].decode(), int(entry.fields[b"row"])
            except (KeyError, ValueError):
                log.warning("row_entry_refused", entry=str(entry.id))
                continue
            found.setdefault(uid, set()).add(row)
        return found

    def waiting(self) -> bool:
        """Return True when there are rows that :meth:`read` has not returned."""
        newest: Any = self._redis.xrevrange(keys.ROWS, count=1)
        return bool(newest) and newest[0][0] != self._cursor
