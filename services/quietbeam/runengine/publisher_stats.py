"""What a publisher says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStats:
    """Where the documents of a :class:`RedisPublisher` are.

    Attributes
    ----------
    sent
        Documents that Redis has, those of taken-over spools included.
    queued, spooled_bytes
        Documents waiting in memory, bytes waiting on disk.
    dropped
        Documents lost because memory and spool were full.
    unencodable
        Documents with values that have no wire form; they went out with those values as text.
    connected
        Redis answered the last time it was tried.
    """

    sent: int
    queued: int
    spooled_bytes: int
    dropped: int
    unencodable: int
    connected: bool
