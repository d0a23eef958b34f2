"""Wake-ups for the other stages and counters, sent to Redis in one go; their loss costs nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from quietbeam.core.process.failpoint import failpoint
from quietbeam.core.wire import bus, keys, metrics
from quietbeam.core.wire.bus import Connection

from ..run.results import RowsWritten


class Announcer:
    """Collects rows on disk and counts until they are sent.

    Parameters
    ----------
    connection
        Redis client of the stage.
    """

    def __init__(self, connection: Connection) -> None:
        self._redis = connection
        self._rows: list[RowsWritten] = []
        self._counters: Counter[str] = Counter()

    def add_rows(self, rows: Iterable[RowsWritten]) -> None:
        """Add rows that are on disk."""
        self._rows += rows

    def count(self, metric: str, amount: int = 1) -> None:
        """Add to a counter of :mod:`quietbeam.core.wire.metrics`."""
        self._counters[metric] += amount

    def send(self) -> None:
        """Send everything; what Redis does not take is not sent again.

        Raises
        ------
        redis.RedisError
            Redis is away or full.
        """
        written, self._rows = self._rows, []
        with self._redis.pipeline(transaction=False) as pipe:
            for rows in written:
                self.count("quietbeam_rows_committed_total", len(rows.rows))
                failpoint("ingest.after_write")
                for row in dict.fromkeys(rows.rows):
                    pipe.xadd(keys.ROWS, {"run": rows.run, "row": row, "at": repr(time.time())})
                    bus.emit(pipe, "row", rows.run, row=row, pixels_measured=rows.pixels_measured)
                metrics.gauge(pipe, "quietbeam_row_commit_seconds", max(0.0, time.monotonic() - rows.last_document))
            for name, amount in self._counters.items():
                if amount:
                    metrics.count(pipe, name, amount)
            self._counters.clear()
            if len(pipe):
                pipe.execute()
