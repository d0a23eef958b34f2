"""A source in memory, for tests."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from .source import ReceivedDocument


class MemorySource:
    """Delivers the documents given to :meth:`send`; after :meth:`reset` again, unless acknowledged."""

    name = "memory"

    def __init__(self) -> None:
        self._waiting: deque[ReceivedDocument] = deque()
        self._delivered: dict[bytes, ReceivedDocument] = {}
        self._next = 0
        self._lock = threading.Condition()

    def send(self, name: str, payload: bytes, run: str = "") -> None:
        """Add one document."""
        with self._lock:
            token = f"{self._next:012d}".encode()
            self._next += 1
            self._waiting.append(ReceivedDocument(token=token, name=name, run=run, payload=payload))
            self._lock.notify()

    @property
    def unacknowledged(self) -> int:
        """Documents delivered and not acknowledged."""
        return len(self._delivered)

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return up to a batch of documents."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while not self._waiting and (left := deadline - time.monotonic()) > 0:
                self._lock.wait(left)
            documents = [self._waiting.popleft() for _ in range(min(512, len(self._waiting)))]
            self._delivered |= {d.token: d for d in documents}
        return documents

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge documents."""
        for token in tokens:
            self._delivered.pop(token, None)

    def reset(self) -> None:
        """Deliver again, in order, before anything new."""
        with self._lock:
            self._waiting.extendleft(sorted(self._delivered.values(), key=lambda d: d.token, reverse=True))
            self._delivered.clear()

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
