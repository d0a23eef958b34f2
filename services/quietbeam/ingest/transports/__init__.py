"""Transports of documents, behind one Protocol: which one a URL of ``ingest.sources`` means."""

from __future__ import annotations

from quietbeam.core.bus import Connection
from quietbeam.core.errors import InputError

from .memory import MemorySource
from .redis_stream import RedisSource, RedisTap
from .source import DocumentSource, ReceivedDocument
from .zmq import ZmqSource

__all__ = ["DocumentSource", "MemorySource", "ReceivedDocument", "RedisSource", "ZmqSource", "make_source", "make_tap"]


def make_source(url: str, connection: Connection) -> DocumentSource:
    """Return the source that an entry of ``ingest.sources`` names.

    Raises
    ------
    InputError
        A URL of no known transport.
    """
    if url == "redis":
        return RedisSource(connection)
    return _make(url)


def make_tap(url: str, connection: Connection, *, history: bool = False) -> DocumentSource:
    """Return a source that only listens: ingest gets every document as well, and nothing is acknowledged.

    Parameters
    ----------
    history
        Begin with what the transport still holds, where it holds anything.
    """
    if url == "redis":
        return RedisTap(connection, history=history)
    return _make(url)


def _make(url: str) -> DocumentSource:
    if url.startswith("zmq://") and ":" in url.removeprefix("zmq://"):
        return ZmqSource(url)
    raise InputError(f"ingest.sources: {url!r} is neither 'redis' nor 'zmq://HOST:PORT'")
