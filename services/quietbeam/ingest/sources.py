"""Where documents come from, behind one Protocol: Redis Streams, a bluesky 0MQ proxy, memory (tests)."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
import zmq

from quietbeam.core import keys
from quietbeam.core.bus import Connection, GroupReader
from quietbeam.core.codec import MAX_DOCUMENT_BYTES
from quietbeam.core.errors import InputError

log = structlog.get_logger()

GROUP = "ingest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedDocument:
    """One document as it came: undecoded. `run` is '' when the transport does not say."""

    token: bytes
    name: str
    run: str
    payload: bytes


class DocumentSource(Protocol):
    """A transport of documents.

    Documents keep the order of one RunEngine. A durable source delivers again what was not acknowledged: after
    `reset`, and to the next process.
    """

    name: str

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return what is there; wait at most `timeout_s` for the first document."""
        ...

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """The effect of these documents is on disk."""
        ...

    def reset(self) -> None:
        """Deliver unacknowledged documents again."""
        ...

    def close(self) -> None:
        """Release the transport."""
        ...


class RedisSource:
    """The stream ``qb:docs``, at least once; unacknowledged documents come first after a restart."""

    name = "redis"

    def __init__(self, connection: Connection, *, stream: str = keys.DOCS, batch: int = 512) -> None:
        # One consumer reads all documents of a run, in order; nothing may be claimed while it lives.
        self._reader = GroupReader(connection, stream, GROUP, "ingest", idle_ms=3_600_000)
        self._batch = batch

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return up to a batch of documents."""
        return [
            ReceivedDocument(
                token=message.id,
                name=message.fields.get(b"name", b"").decode(errors="replace"),
                run=message.fields.get(b"run", b"").decode(errors="replace"),
                payload=message.fields.get(b"doc", b""),
            )
            for message in self._reader.read(self._batch, max(1, int(timeout_s * 1000)))
        ]

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge in Redis."""
        if tokens:
            self._reader.acknowledge(list(tokens))

    def reset(self) -> None:
        """Read pending entries again; make the group again when Redis lost it."""
        self._reader.restart()

    def close(self) -> None:
        """Nothing to release: the connection belongs to the stage."""


class ZmqSource:
    """Out side of a bluesky 0MQ proxy, msgpack only. Best effort: what 0MQ drops is lost, what overflows is counted.

    Parameters
    ----------
    address
        ``zmq://HOST:PORT`` or ``tcp://HOST:PORT``.
    max_documents, max_bytes
        Bound of the queue between the socket and ingest.
    """

    name = "zmq"

    def __init__(self, address: str, *, max_documents: int = 200_000, max_bytes: int = 512 * 1024 * 1024) -> None:
        self.address = "tcp://" + address.partition("://")[2]
        self.lost = 0
        self._queue: queue.Queue[ReceivedDocument] = queue.Queue(max_documents)
        self._bytes, self._max_bytes = 0, max_bytes
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="quietbeam-zmq", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, 0)  # our own bound counts what it drops, 0MQ's does not
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_DOCUMENT_BYTES)
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(self.address)
        while not self._closing.is_set():
            try:
                if socket.poll(100):
                    self._take(socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                continue
            except zmq.ZMQError as error:
                log.warning("zmq_error", address=self.address, error=str(error))
                self._closing.wait(0.2)
        socket.close()

    def _take(self, parts: list[bytes]) -> None:
        if len(parts) != 1:
            parts = [b" ".join(parts)]
        prefix, found, rest = parts[0].partition(b" ")
        name, found, payload = rest.partition(b" ") if found else (prefix, b"", b"")
        with self._lock:
            fits = self._bytes + len(payload) <= self._max_bytes and not self._queue.full()
            if fits:
                self._bytes += len(payload)
        if not fits:
            self.lost += 1
            if self.lost % 1000 == 1:
                log.error("zmq_documents_lost", lost=self.lost, remedy="ingest is too slow for this source; use redis")
            return
        text = name[:64].decode(errors="replace")
        self._queue.put_nowait(ReceivedDocument(token=b"", name=text, run="", payload=payload))

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return what has arrived."""
        documents: list[ReceivedDocument] = []
        try:
            documents.append(self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait())
            while len(documents) < 1024:
                documents.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        with self._lock:
            self._bytes -= sum(len(d.payload) for d in documents)
        return documents

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """0MQ knows no acknowledgement."""

    def reset(self) -> None:
        """0MQ does not deliver again."""

    def close(self) -> None:
        """Stop the thread, close the socket."""
        self._closing.set()
        self._thread.join(5)
        self._context.term()


class MemorySource:
    """Twin for tests: delivers what :meth:`send` gave it, again after :meth:`reset` unless acknowledged."""

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
        """Return what waits."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while not self._waiting and (left := deadline - time.monotonic()) > 0:
                self._lock.wait(left)
            documents = [self._waiting.popleft() for _ in range(min(512, len(self._waiting)))]
            self._delivered |= {d.token: d for d in documents}
        return documents

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Forget these."""
        for token in tokens:
            self._delivered.pop(token, None)

    def reset(self) -> None:
        """Deliver again, in order, before anything new."""
        with self._lock:
            self._waiting.extendleft(sorted(self._delivered.values(), key=lambda d: d.token, reverse=True))
            self._delivered.clear()

    def close(self) -> None:
        """Nothing to release."""


def make_source(name: str, connection: Connection) -> DocumentSource:
    """Return the source that ``ingest.sources`` names.

    Raises
    ------
    InputError
        Neither 'redis' nor 'zmq://HOST:PORT'.
    """
    if name == "redis":
        return RedisSource(connection)
    if name.startswith("zmq://") and ":" in name.removeprefix("zmq://"):
        return ZmqSource(name)
    raise InputError(f"ingest.sources: {name!r} is neither 'redis' nor 'zmq://HOST:PORT'")
