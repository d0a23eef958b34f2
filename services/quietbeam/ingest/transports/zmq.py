"""A bluesky 0MQ proxy: best effort."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

import structlog
import zmq

from quietbeam.core.codec import MAX_DOCUMENT_BYTES

from .source import ReceivedDocument

log = structlog.get_logger()


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
