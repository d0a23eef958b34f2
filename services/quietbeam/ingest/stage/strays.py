"""Documents of an unknown run: events whose descriptor has not come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..transports import ReceivedDocument

MAX_STRAY = 20_000
MAX_STRAY_BYTES = 64 * 2**20

Handle = Callable[[int, ReceivedDocument], bool]
"""Handles a document of a source (by number); returns False when its run is still unknown."""


class StrayDocuments:
    """Holds documents, unacknowledged, until their run is known or they have waited too long."""

    def __init__(self) -> None:
        self._documents: deque[tuple[float, int, ReceivedDocument]] = deque()
        self._bytes = 0

    def add(self, now: float, source: int, received: ReceivedDocument) -> None:
        """Hold a document."""
        self._documents.append((now, source, received))
        self._bytes += len(received.payload)

    def retry(self, now: float, longest_s: float, handle: Handle, give_up: Handle) -> None:
        """Handle the documents whose run is known by now; give up those that have waited longer than `longest_s`.

        Raises
        ------
        OSError, redis.RedisError
            From `handle` or `give_up`; the document is still held.
        """
        for _ in range(len(self._documents)):
            since, source, received = self._documents[0]
            used = handle(source, received)
            too_many = len(self._documents) > MAX_STRAY or self._bytes > MAX_STRAY_BYTES
            if not used and (now - since > longest_s or too_many):
                used = give_up(source, received)
            if used:
                self._bytes -= len(received.payload)
            else:
                self._documents.append((since, source, received))
            self._documents.popleft()
