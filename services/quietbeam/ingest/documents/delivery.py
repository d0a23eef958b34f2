"""Which delivered documents may be acknowledged: those whose effect is on disk, in the order in which they came.

So whatever is delivered again after a kill is a suffix of what was delivered before, and "the last one wins" gives the
same bytes.
"""

from __future__ import annotations

from collections import deque


class Pending:
    """One delivered document and the number of those who still need it.

    It is delivered with one user: the code that handles it. Everybody who keeps data of the document beyond that call
    (a row in memory, a list of held documents) retains it, and releases it when the data are on disk or given up. When
    nobody needs it any more it is stored for good: retaining it again, or releasing it again, is an error.

    Parameters
    ----------
    source, token
        The transport it came from, and the transport's name for it.
    size
        Bytes of the document.
    """

    __slots__ = ("_followed", "_users", "_withdrawn", "size", "source", "token")

    def __init__(self, source: int, token: bytes, size: int = 0) -> None:
        self.source, self.token, self.size = source, token, size
        self._users = 1
        self._withdrawn = False
        self._followed: list[Pending] = []

    def __repr__(self) -> str:
        state = "withdrawn" if self._withdrawn else f"{self._users} users"
        return f"Pending({self.source}, {self.token!r}: {state})"

    @property
    def stored(self) -> bool:
        """True when nobody needs the document any more."""
        return self._users == 0

    @property
    def done(self) -> bool:
        """True when the document, and every document that it follows, is stored."""
        return self.stored and all(other.stored for other in self._followed)

    def retain(self) -> None:
        """Need the document until :meth:`release`.

        Raises
        ------
        RuntimeError
            Nobody needed it any more, so it may have been acknowledged.
        """
        if self._users == 0:
            raise RuntimeError(f"{self!r} is retained after its last release")
        self._users += 1

    def release(self) -> None:
        """Need the document no longer.

        Raises
        ------
        RuntimeError
            It was released more often than it was retained.
        """
        if self._users == 0:
            raise RuntimeError(f"{self!r} is released too often")
        self._users -= 1

    def follow(self, other: Pending) -> None:
        """Let this document be acknowledged only after `other`, which means nothing without it (the Event of a datum).

        A withdrawn document is followed no longer once the same document, delivered again, takes its place.
        """
        if other is not self:
            self._followed = [p for p in self._followed if not (p.stored or p._withdrawn or p is other)]
            self._followed.append(other)

    def withdraw(self) -> None:
        """The document will be delivered again; this delivery is never acknowledged."""
        self._withdrawn = True


class Retained:
    """Documents that one user needs together, such as those of a row in memory."""

    __slots__ = ("_documents",)

    def __init__(self) -> None:
        self._documents: list[Pending] = []

    def __len__(self) -> int:
        return len(self._documents)

    def add(self, pending: Pending) -> None:
        """Retain a document; once for each call."""
        pending.retain()
        self._documents.append(pending)

    def release(self, *, follow: Pending | None = None) -> None:
        """Release all documents; each is acknowledged only after the one to `follow`."""
        documents, self._documents = self._documents, []
        for pending in documents:
            if follow is not None:
                pending.follow(follow)
            pending.release()


class AckQueue:
    """Delivered documents of one run in the order in which they came."""

    def __init__(self) -> None:
        self._queue: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def deliver(self, source: int, token: bytes, size: int = 0) -> Pending:
        """Add a document, with its handler as its one user."""
        pending = Pending(source, token, size)
        self._queue.append(pending)
        return pending

    def withdraw(self, pending: Pending) -> None:
        """Remove the document that was delivered last: it will be delivered again."""
        assert self._queue[-1] is pending
        self._queue.pop().withdraw()

    def pop_done(self) -> list[Pending]:
        """Remove and return the documents that can be acknowledged now."""
        done: list[Pending] = []
        while self._queue and self._queue[0].done:
            done.append(self._queue.popleft())
        return done


class Deliveries:
    """Every delivered document that is not yet acknowledged, in a queue for each run."""

    def __init__(self) -> None:
        self._queues: dict[str, AckQueue] = {}

    def deliver(self, run: str, source: int, token: bytes, size: int = 0) -> Pending:
        """Add a document of a run ('' when unknown), with its handler as its one user."""
        return self._queues.setdefault(run, AckQueue()).deliver(source, token, size)

    def withdraw(self, run: str, pending: Pending) -> None:
        """Remove the document of the run that was delivered last: it will be delivered again."""
        self._queues[run].withdraw(pending)

    def unacknowledged(self, run: str) -> int:
        """Return how many documents of a run are not yet acknowledged."""
        return len(self._queues.get(run, ()))

    def pop_done(self) -> list[Pending]:
        """Remove and return the documents that can be acknowledged now."""
        done = [pending for queue in self._queues.values() for pending in queue.pop_done()]
        for run in [run for run, queue in self._queues.items() if not len(queue)]:
            del self._queues[run]
        return done
