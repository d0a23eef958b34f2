"""Which delivered documents may be acknowledged: strictly in the order in which they came.

So whatever is delivered again after a kill is a suffix of what was delivered before, and "the last one wins" gives the
same bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Pending:
    """One delivered document; acknowledged when nothing waits for it and for none before it.

    `after` is the document without which this one means nothing (the Event of a datum).
    """

    source: int
    token: bytes
    waiting: int = 1
    after: Pending | None = None

    @property
    def done(self) -> bool:
        """True when nothing waits for it any more."""
        return self.waiting <= 0 and (self.after is None or self.after.waiting <= 0)


class AckQueue:
    """Delivered documents of one run in the order in which they came."""

    def __init__(self) -> None:
        self._queue: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def deliver(self, source: int, token: bytes) -> Pending:
        """Add a document; it waits until its `waiting` is 0."""
        pending = Pending(source, token)
        self._queue.append(pending)
        return pending

    def withdraw(self, pending: Pending) -> None:
        """Forget the document that was delivered last: it will be delivered again."""
        assert self._queue[-1] is pending
        self._queue.pop()

    def take(self) -> list[Pending]:
        """Remove and return the documents that can be acknowledged now."""
        ready: list[Pending] = []
        while self._queue and self._queue[0].done:
            ready.append(self._queue.popleft())
        return ready
