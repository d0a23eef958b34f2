"""Connections of the service: none is held open by a request that is never finished, and no address takes them all.

A connection is *waiting* from its beginning, or from the end of an answer, until the head of a request is complete.
Waiting connections have a time limit and a number; when there are too many, the oldest one of the address that has the
most is closed. So a client that sends half requests closes its own connections, and others get an answer.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .access.identity import network_of

log = structlog.get_logger()

HEAD_S = 10.0
"""A request's head must be complete after this time."""
HEAD_BYTES = 64 * 2**10
MAX_CONNECTIONS = 2048
"""Half of them may wait, three eighths from one address."""
_OTHER_FILES = 256
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connections:
    """The connections of a server; used in its event loop."""

    def __init__(self) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files - _OTHER_FILES)
        self._most, self._most_waiting, self._most_of_one = most, most // 2, most * 3 // 8
        self._open: set[Connection] = set()
        self._waiting: dict[str, dict[Connection, None]] = {}
        self._n_waiting = 0
        self.evicted = 0

    def opened(self, connection: Connection) -> None:
        """Take in a new connection, which is waiting."""
        self._open.add(connection)
        self.wait(connection)
        if len(self._open) > self._most:
            self._evict()

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.busy(connection)
        self._open.discard(connection)

    def wait(self, connection: Connection) -> None:
        """Note that a connection waits for a request."""
        self.busy(connection)
        mine = self._waiting.setdefault(connection.network, {})
        mine[connection] = None
        self._n_waiting += 1
        if len(mine) > self._most_of_one:
            self._evict(connection.network)
        elif self._n_waiting > self._most_waiting:
            self._evict()

    def busy(self, connection: Connection) -> None:
        """Note that the head of a request is complete."""
        mine = self._waiting.get(connection.network, {})
        if connection in mine:
            del mine[connection]
            self._n_waiting -= 1
            if not mine:
                del self._waiting[connection.network]

    def _evict(self, network: str | None = None) -> None:
        if network is None:
            network = max(self._waiting, key=lambda one: len(self._waiting[one]))
        victim = next(iter(self._waiting[network]))
        self.closed(victim)
        self.evicted += 1
        if self.evicted % 1000 == 1:
            log.warning("connections_evicted", n=self.evicted, network=network, reason="too many wait for a request")
        victim.transport.abort()


class Connection(HttpToolsProtocol):
    """uvicorn's connection with a limit to the time and the size of a request's head.

    Each server makes a subclass with its own `table` (see :func:`limited`).
    """

    table: Connections

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        super().connection_made(transport)
        self.network = network_of(self.client[0] if self.client else "")
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._has_head = self._in_body = False
        self._start_clock()
        self.table.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_clock()
        self.table.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that grows without end is refused."""
        if not self._has_head:
            self._start_clock()
            self._head_bytes += 0 if self._in_body else len(data)
        super().data_received(data)
        if not self._has_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Serve the request."""
        self._has_head, self._in_body, self._head_bytes = True, True, 0
        self._stop_clock()
        self.table.busy(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note the end of a body."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless one is there already."""
        was_last = not self.pipeline
        super().on_response_complete()
        if was_last and not self.transport.is_closing():
            self._has_head = False
            self.table.wait(self)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over: from now on it is another protocol's."""
        self._stop_clock()
        self.table.closed(self)
        super().handle_websocket_upgrade()

    def timeout_keep_alive_handler(self) -> None:
        """Close; a client that has not even read its answer is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _start_clock(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def limited() -> type[Connection]:
    """Return the protocol of one server, with a table of its own."""
    return type("LimitedConnection", (Connection,), {"table": Connections()})
