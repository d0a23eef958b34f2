"""Documents in memory between the RunEngine's thread, which adds them, and the publisher's, which removes them."""

from __future__ import annotations

import itertools
import threading
from collections import deque

from .spool import Record


class DocumentQueue:
    """A bounded queue of documents; one thread adds, another one removes what it has sent or stored.

    Parameters
    ----------
    max_bytes
        Beyond it nothing is added.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._records: deque[Record] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def is_half_full(self) -> bool:
        """True when it is time to make room."""
        return self._bytes > self._max_bytes // 2

    def add(self, record: Record) -> bool:
        """Append a document; False when there is no room for it."""
        with self._lock:
            if self._bytes + len(record.doc) > self._max_bytes:
                return False
            self._bytes += len(record.doc)
            self._records.append(record)
            return True

    def first(self) -> Record:
        """Return the oldest document, which stays."""
        return self._records[0]

    def batch(self, most: int, most_bytes: int) -> list[Record]:
        """Return the oldest documents, at least one where there is one; they stay."""
        records: list[Record] = []
        size = 0
        with self._lock:
            for record in itertools.islice(self._records, most):
                records.append(record)
                size += len(record.doc)
                if size > most_bytes:
                    break
        return records

    def remove(self, n: int) -> None:
        """Remove the `n` oldest documents."""
        with self._lock:
            for _ in range(n):
                self._bytes -= len(self._records.popleft().doc)
