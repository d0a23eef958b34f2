"""Offsets of one Kafka partition: which messages were delivered, and which of them are acknowledged."""

from __future__ import annotations

from collections import deque


class PartitionOffsets:
    """Offsets of one partition.

    Parameters
    ----------
    start
        Offset of the first message to deliver.

    Attributes
    ----------
    next
        Offset of the next message to deliver.
    committed
        Offset that the brokers know of the group, or None before the first commit.
    generation
        How often the brokers lost the topic and numbered it anew. Acknowledgements of an older one mean nothing.
    """

    def __init__(self, start: int) -> None:
        self.next = start
        self.committed: int | None = None
        self.generation = 0
        self._unacknowledged: deque[int] = deque()
        self._acknowledged: set[int] = set()

    def deliver(self, offset: int) -> bool:
        """Register a message that came; return False when it was acknowledged before."""
        if offset < self.next:
            self.generation += 1
            self._unacknowledged.clear()
            self._acknowledged.clear()
        self.next = offset + 1
        if offset in self._acknowledged:
            return False
        self._unacknowledged.append(offset)
        return True

    def acknowledge(self, offset: int) -> None:
        """Acknowledge a delivered message."""
        if offset >= self.position:
            self._acknowledged.add(offset)
        while self._unacknowledged and self._unacknowledged[0] in self._acknowledged:
            self._acknowledged.discard(self._unacknowledged.popleft())

    @property
    def position(self) -> int:
        """Offset of the first message that is not acknowledged: what a group commits."""
        return self._unacknowledged[0] if self._unacknowledged else self.next

    def rewind(self) -> int:
        """Forget the deliveries that are not acknowledged; return the offset to read from."""
        self.next = self.position
        self._acknowledged = {offset for offset in self._acknowledged if offset > self.next}
        self._unacknowledged.clear()
        return self.next
