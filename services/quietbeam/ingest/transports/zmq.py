"""A bluesky 0MQ proxy, plain or with CURVE: best effort."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

from quietbeam.core.codec import MAX_DOCUMENT_BYTES
from quietbeam.core.errors import InputError
from quietbeam.core.settings import CurveSettings
from quietbeam.core.wire.zmq_address import ZmqAddress, keep_alive, parse_zmq

from .source import Probe, ReceivedDocument

log = structlog.get_logger()

_RETRY_S = 5.0
_REFUSALS = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveKeys:
    """Keys of a CURVE client, each 40 characters of Z85."""

    public: bytes
    secret: bytes
    server: bytes


def load_keys(settings: CurveSettings) -> CurveKeys:
    """Return the keys that ``ingest.curve`` names.

    Raises
    ------
    InputError
        A key is missing, not readable or no key.
    """
    if settings.server_key:
        server = _checked(settings.server_key, "server_key")
    elif settings.server_key_file:
        server = _certificate(settings.server_key_file, "server_key_file")[0]
    else:
        raise InputError(
            "zmq+curve:// needs the proxy's public key", remedy="set ingest.curve.server_key_file or server_key"
        )
    if settings.client_key:
        secret = _checked(settings.client_key.get_secret_value(), "client_key")
        return CurveKeys(public=zmq.curve_public(secret), secret=secret, server=server)
    if settings.client_key_file:
        public, hidden = _certificate(settings.client_key_file, "client_key_file")
        if not hidden:
            raise InputError(
                f"{settings.client_key_file} has only the public key",
                remedy="name the *.key_secret file in ingest.curve.client_key_file",
            )
        return CurveKeys(public=public, secret=hidden, server=server)
    public, secret = zmq.curve_keypair()  # for a proxy that takes every client
    return CurveKeys(public=public, secret=secret, server=server)


def _certificate(path: Path, name: str) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable 0MQ certificate ({error})", remedy=f"correct ingest.curve.{name}"
        ) from error


def _checked(text: str, name: str) -> bytes:
    key = text.encode()
    try:
        zmq.curve_public(key)  # a public key is a number of the same form
    except (ValueError, zmq.ZMQError) as error:
        raise InputError(
            f"ingest.curve.{name} is no key of 0MQ", remedy="give the 40 characters of Z85 of a key"
        ) from error
    return key


class ZmqSource:
    """Outgoing side of a bluesky 0MQ proxy, msgpack only. Best effort: 0MQ may drop documents, overflow is counted.

    Parameters
    ----------
    url
        ``zmq://HOST:PORT`` or ``zmq+curve://HOST:PORT``; ``zmq://[::1]:PORT`` for IPv6.
    keys
        For CURVE.
    max_documents, max_bytes
        Bound of the queue between the socket and ingest.
    """

    name = "zmq"

    def __init__(
        self,
        url: str,
        keys: CurveKeys | None = None,
        *,
        max_documents: int = 200_000,
        max_bytes: int = 512 * 1024 * 1024,
    ) -> None:
        self._where, self._keys = parse_zmq(url), keys
        self.address = self._where.url
        self.lost = 0
        self.refused = ""
        self._queue: queue.Queue[ReceivedDocument] = queue.Queue(max_documents)
        self._bytes, self._max_bytes = 0, max_bytes
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._closing = threading.Event()
        self._retry_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="quietbeam-zmq", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        socket = _subscriber(self._context, self._keys, self._where)
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | _REFUSALS)
        self._connect(socket)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        while not self._closing.is_set():
            try:
                ready = dict(poller.poll(100))
                if monitor in ready:
                    self._on_monitor_event(recv_monitor_message(monitor))
                if socket in ready:
                    self._on_message(socket.recv_multipart(zmq.NOBLOCK))
                if time.monotonic() > self._retry_at:  # libzmq does not reconnect after a refusal
                    with suppress(zmq.ZMQError):  # it was never connected
                        socket.disconnect(self.address)
                    self._connect(socket)
            except zmq.Again:
                continue
            except zmq.ZMQError as error:
                log.warning("zmq_error", address=self.address, error=str(error))
                self._closing.wait(0.2)
        socket.disable_monitor()
        monitor.close()
        socket.close()

    def _connect(self, socket: zmq.Socket[bytes]) -> None:
        self._retry_at = float("inf")
        try:
            socket.connect(self.address)
        except zmq.ZMQError as error:
            self._refuse(f"cannot connect to {self.address}: {error}", "correct ingest.sources")

    def _refuse(self, reason: str, remedy: str) -> None:
        if reason != self.refused:
            log.error("zmq_refused", address=self.address, reason=reason, remedy=remedy)
        self.refused, self._retry_at = reason, time.monotonic() + _RETRY_S

    def _on_monitor_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.refused, self._retry_at = "", float("inf")
            log.info("zmq_connected", address=self.address, curve=self._keys is not None)
            return
        self._refuse(*_refusal(event, self._keys))

    def _on_message(self, parts: list[bytes]) -> None:
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
        """Return up to a batch of documents."""
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
        """Do nothing: 0MQ has no acknowledgement."""

    def reset(self) -> None:
        """Do nothing: 0MQ does not deliver again."""

    def close(self) -> None:
        """Stop the thread, close the socket."""
        self._closing.set()
        self._thread.join(5)
        self._context.term()


def probe(url: str, keys: CurveKeys | None, timeout_s: float = 3.0) -> Probe:
    """Connect to the proxy and return how the handshake ended."""
    where = parse_zmq(url)
    with zmq.Context() as context, _subscriber(context, keys, where) as socket:
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | _REFUSALS)
        socket.connect(where.url)
        event = recv_monitor_message(monitor) if monitor.poll(int(timeout_s * 1000)) else None
        socket.disable_monitor()
        monitor.close()
    if event is None:
        return Probe(
            verdict="warning",
            found="no proxy answers; documents sent meanwhile are lost",
            remedy="start the 0MQ proxy (ingest connects when it is there), or correct ingest.sources",
        )
    if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
        return Probe(verdict="ok", found="the proxy answers" + (" and takes the key" if keys else ""))
    reason, remedy = _refusal(event, keys)
    return Probe(verdict="failure", found=reason, remedy=remedy)


def _subscriber(
    context: zmq.Context[Any], keys: CurveKeys | None, where: ZmqAddress | None = None
) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.IPV6, where is not None and where.ipv6)
    keep_alive(socket)
    socket.setsockopt(zmq.RCVHWM, 0)  # this class has its own limit and counts what it drops; 0MQ's limit does not
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_DOCUMENT_BYTES)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = keys.public, keys.secret, keys.server
    socket.subscribe(b"")
    return socket


def _refusal(event: Mapping[str, Any], keys: CurveKeys | None) -> tuple[str, str]:
    """Return why there was no connection, and what to do."""
    if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "the proxy does not take our client key", "add its public half to the proxy's folder of client keys"
    if keys is None:
        return "the proxy speaks no plain 0MQ", "write zmq+curve://HOST:PORT and set ingest.curve"
    return (
        "the handshake with CURVE breaks off: another server key, or a proxy without CURVE",
        "set ingest.curve.server_key_file to the proxy's public key, or write zmq://HOST:PORT",
    )
