"""Tiled's websocket: notifies of changed nodes, and brings the rows that are appended to tables.

Tiled sends rows before it stores them, does not keep what it has sent, and may lose a message. Lost messages are found
by requests, at the latest when the run ends. A table is requested as rarely as possible: a request while TiledWriter
appends makes either of them fail at times (Tiled 0.2.20 with DuckDB, where it is not the embedded one).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import msgpack
import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from quietbeam.core.settings import NetworkSettings
from quietbeam.core.wire.web import tls_context

from .reader import ARROW, TiledAddress, TiledReader, UniqueRows, table_rows

log = structlog.get_logger()

_MOST_SOCKETS = 256
_MOST_MESSAGES = 4096
_MAX_BYTES = 64 * 2**20
_CONNECT_S = 10.0
_RETRY_S = 5.0
_ENDED = 1000
_ROUNDS = 3


class _Node:
    """A node with its websocket.

    Attributes
    ----------
    parent
        The container whose children have this node's structure, for a file that an external program writes.
    answered
        Set when the websocket is connected, or cannot be.
    live, ended
        True while the websocket is connected; True when the server closed it because the node is complete.
    quiet
        True when no message came since the last call of `recheck_quiet`.
    changed
        True when the node must be requested again.
    first, rows
        Number of the first row kept here, and the rows from there on.
    sequence
        Number of the last message in `rows`.
    """

    def __init__(self, parent: _Node | None) -> None:
        self.parent = parent
        self.answered = threading.Event()
        self.live = self.ended = self.quiet = False
        self.changed = True
        self.children: dict[str, dict[str, Any]] = {}
        self.messages: deque[dict[str, Any]] = deque(maxlen=_MOST_MESSAGES)
        self.sequence: int | None = None
        self.rows: list[dict[str, Any]] = []
        self.first = 0
        self.unique = UniqueRows()
        self.task: Future[None] | None = None


class LiveReader(TiledReader):
    """A `TiledReader` that requests only what has changed, while the server's websocket notifies of changes.

    Parameters
    ----------
    wake
        Called from another thread when something has changed.

    Attributes
    ----------
    live
        False when a request since `begin_round` was for a node without a websocket: it must be repeated in time.
    """

    def __init__(
        self, address: TiledAddress, key: str, wake: Callable[[], object], network: NetworkSettings | None = None
    ) -> None:
        super().__init__(address, key, network)
        network = network or NetworkSettings()
        secure = address.base.startswith("https")
        self._connection: dict[str, Any] = {
            "ssl": tls_context(network) if secure else None,
            "proxy": True if network.environment_proxy else None,
        }
        self._headers = {"Authorization": f"Apikey {key}"} if key else {}
        self._wake = wake
        self._nodes: dict[str, _Node] = {}
        self._not_before = 0.0
        self._problem = ""
        self.live = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="quietbeam-tiled-sockets", daemon=True)
        self._thread.start()

    def begin_round(self) -> None:
        """Begin a round of requests."""
        self.live = True

    def changed(self, path: str) -> bool:
        """Return whether children of a container are new or changed since the last call."""
        node = self._follow(path)
        if node is None or node.changed:
            if node is not None:
                node.changed = False
            return True
        return False

    def children(self, path: str) -> dict[str, dict[str, Any]]:
        """Return the attributes of all children by name."""
        node = self._follow(path)
        if node is None:
            return super().children(path)
        for _ in range(_ROUNDS):
            if not node.changed:
                break
            node.changed = False
            try:
                node.children = super().children(path)
            except BaseException:
                node.changed = True
                raise
            files = [f"{path}/{name}" for name, child in node.children.items() if _external(child)]
            new = [name for name in files if name not in self._nodes or not self._nodes[name].live]
            for name in new:
                self._follow(name, node)
            node.changed |= bool(new)  # they may have changed before their websocket was connected
        return node.children

    def rows(self, path: str, columns: Sequence[str], first: int) -> list[dict[str, Any]]:
        """Return the rows of a table from `first` on."""
        node = self._follow(path, replay=True) if {"seq_num", "time"} <= set(columns) else None
        if node is None:
            self.live = False
            return super().rows(path, columns, first)
        messages = [node.messages.popleft() for _ in range(len(node.messages))]
        if node.changed or first < node.first or not _is_complete(node.sequence, messages):
            try:
                node.unique, node.first, node.changed = UniqueRows(), 0, False
                node.rows = node.unique.add(self.table(path))
            except BaseException:
                self.unfollow(path)
                raise
        for message in messages:
            node.sequence = message["sequence"]
            if message.get("payload") and message["mimetype"] == ARROW:
                node.rows += node.unique.add(table_rows(message["payload"]))
        node.rows, node.first = node.rows[first - node.first :], first
        return list(node.rows)

    def recheck_quiet(self) -> None:
        """Request every node again from which no message came since the last call."""
        for node in self._nodes.values():
            node.changed |= node.quiet
            node.quiet = True

    def unfollow(self, path: str) -> None:
        """Close the websockets of a node and of all nodes below it."""
        for name, node in self._below(path).items():
            self._drop(name, node)

    def close(self) -> None:
        """Close all connections."""
        self.unfollow("")
        pending = asyncio.run_coroutine_threadsafe(self._finish_tasks(), self._loop)
        pending.result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        super().close()

    async def _finish_tasks(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)

    def _below(self, path: str) -> dict[str, _Node]:
        return {n: node for n, node in self._nodes.items() if not path or n == path or n.startswith(f"{path}/")}

    def _drop(self, path: str, node: _Node) -> None:
        self._nodes.pop(path, None)
        if node.task is not None:
            node.task.cancel()

    def _follow(self, path: str, parent: _Node | None = None, *, replay: bool = False) -> _Node | None:
        """Return a node with a connected websocket; None when there is none.

        With `replay` its messages begin with those that the server still has: a row may be sent and not yet stored.
        """
        node = self._nodes.get(path)
        if node is not None and not node.live:
            self._drop(path, node)
            if not node.ended:
                self._not_before = time.monotonic() + _RETRY_S
            parent, node = node.parent, None
        if node is None and len(self._nodes) < _MOST_SOCKETS and time.monotonic() >= self._not_before:
            node = self._nodes[path] = _Node(parent)
            node.task = asyncio.run_coroutine_threadsafe(self._listen(path, node, replay), self._loop)
            node.answered.wait(_CONNECT_S)
            if not node.live:
                self._drop(path, node)
                self._not_before = time.monotonic() + _RETRY_S
                node = None
        if node is None:
            self.live = False
        return node

    async def _listen(self, path: str, node: _Node, replay: bool) -> None:
        where = self.address.base.replace("http", "ws", 1)
        uri = f"{where}stream/single/{quote(path)}?envelope_format=msgpack{'&start=0' if replay else ''}"
        try:
            async with connect(
                uri, additional_headers=self._headers, max_size=_MAX_BYTES, compression=None, **self._connection
            ) as socket:
                async for frame in socket:
                    self._on_message(node, msgpack.unpackb(frame))
            node.ended = socket.close_code == _ENDED
        except (OSError, WebSocketException) as error:
            self._report(f"{type(error).__name__}: {error}" if node.live else f"no websocket at {uri}: {error}")
        except Exception:
            log.exception("tiled_stream_failed", uri=uri)
        finally:
            node.live = False
            (node.parent or node).changed = True
            node.answered.set()
            self._wake()

    def _on_message(self, node: _Node, message: dict[str, Any]) -> None:
        kind, node.quiet = str(message["type"]), False
        if kind.endswith("-schema"):
            node.live = True
            node.answered.set()
            self._report("")
            return
        if kind == "table-data":
            node.messages.append(message)
        else:
            (node.parent or node).changed = True
        self._wake()

    def _report(self, problem: str) -> None:
        """Log a problem once; '' when there is none any more."""
        if problem and problem != self._problem:
            log.warning("tiled_not_streaming", reason=problem, remedy="Tiled is polled instead, which is slower")
        self._problem = problem


def _external(child: dict[str, Any]) -> bool:
    return any(source.get("management") == "external" for source in child.get("data_sources") or [])


def _is_complete(sequence: int | None, messages: Sequence[dict[str, Any]]) -> bool:
    """Return whether messages all append, with none missing among them and after message number `sequence`."""
    numbers = [*([] if sequence is None else [sequence]), *(message["sequence"] for message in messages)]
    appending = all(message["append"] and message.get("payload") for message in messages)
    return appending and all(after == before + 1 for before, after in pairwise(numbers))
