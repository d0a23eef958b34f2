"""Documents from a command of this package to ingest: over Redis (spooled on disk while it is unreachable) or 0MQ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from quietbeam.core.errors import InputError
from quietbeam.core.secrets import masked

from .options import Transport

if TYPE_CHECKING:
    from quietbeam.core.settings import Settings

_CLOSE_S = 15.0


@contextmanager
def publishing(settings: Settings, transport: Transport) -> Iterator[Callable[[str, Any], Any]]:
    """Yield the callback that sends documents; at the end everything is sent, or stays in the spool."""
    if transport == "none":
        yield lambda _name, _doc: None
        return
    from quietbeam.runengine.publisher import RedisPublisher, zmq_publisher

    if transport == "zmq":
        if not settings.embedded.zmq_in:
            raise InputError("embedded.zmq_in is not set", remedy="give the in side of the 0MQ proxy in the config")
        publisher = zmq_publisher(settings.embedded.zmq_in)
        try:
            yield publisher
        finally:
            publisher.close()
        return
    spool = settings.data_dir / "spool"
    spooling = RedisPublisher(settings.redis_url, spool_dir=spool)
    try:
        yield spooling
    finally:
        if not spooling.close(_CLOSE_S):
            stats = spooling.stats()
            typer.echo(
                f"Redis at {masked(settings.redis_url)} does not answer: {stats.spooled_bytes} bytes of documents "
                f"are kept in {spool} for the next publisher, {stats.dropped} documents were dropped",
                err=True,
            )
