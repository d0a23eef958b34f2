"""RunEngine callbacks that send documents to quietbeam and never harm the scan.

``RE.subscribe(RedisPublisher("redis://..."))`` is durable (Redis Streams, with a spool on disk while Redis is away);
``RE.subscribe(zmq_publisher("127.0.0.1:5577"))`` is best effort.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
import structlog

from quietbeam.core.wire.wire_form import pack_or_stringify, pack_what_can_be, readable

from .document_queue import DocumentQueue
from .publisher_stats import PublisherStats
from .redis_link import RedisLink
from .spool import Record, Spool
from .zmq_publisher import zmq_publisher

__all__ = ["PublisherStats", "RedisPublisher", "pack_or_stringify", "pack_what_can_be", "zmq_publisher"]

log = structlog.get_logger()

_BATCH_RECORDS = 256
_BATCH_BYTES = 4 * 1024 * 1024
_LINGER_S = 0.002
_RETRY_S = 0.2
_RESERVE = 64 * 1024 * 1024
_BULK = frozenset({"event", "event_page", "stream_datum", "datum", "datum_page", "bulk_events"})


class RedisPublisher:
    """Sends documents to the stream ``qb:docs``, in order, at least once.

    The call itself only encodes (a snapshot: the document may be changed afterwards) and appends to a bounded queue.
    A daemon thread sends; while Redis is away it moves the queue to disk, and drains the disk in order when Redis
    is back. Spools of earlier processes that died are sent first.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``.
    spool_dir
        Folder for the spool; default ``$XDG_STATE_HOME/quietbeam/spool``.
    max_queue_bytes
        Memory for documents that are not yet sent or spooled.
    max_spool_bytes
        Disk for the spool; beyond it events are dropped and counted, other documents still have 64 MB.
    """

    def __init__(
        self,
        url: str,
        *,
        spool_dir: str | Path | None = None,
        max_queue_bytes: int = 64 * 1024 * 1024,
        max_spool_bytes: int = 2 * 1024**3,
    ) -> None:
        self._link = RedisLink(url)
        self._queue = DocumentQueue(max_queue_bytes)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._sent = self._unencodable = 0
        self._connected = True
        self._met = False
        self._runs: dict[str, str] = {}
        self._dropped: dict[str, int] = {}
        self._dropped_total = 0
        self._spool = _open_spool(spool_dir, url, max_spool_bytes)
        self._spooled_bytes = self._spool.size if self._spool else 0
        self._thread = threading.Thread(target=self._run, name="quietbeam-publisher", daemon=True)
        self._thread.start()
        atexit.register(self.close, 5.0)

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Queue one document; never raises, never waits for the network or the disk."""
        try:
            payload, complete = pack_or_stringify(doc)
            if not complete:
                self._unencodable += 1
            record = Record(readable(str(name)), readable(self._run_of(name, doc)), payload)
            if not self._queue.add(record):
                self._drop(record)
            if not self._wake.is_set():
                self._wake.set()
        except Exception as error:
            self._dropped_total += 1
            _log_quietly("document_not_published", error)

    def stats(self) -> PublisherStats:
        """Return where the documents are."""
        return PublisherStats(
            sent=self._sent,
            queued=len(self._queue),
            spooled_bytes=self._spooled_bytes,
            dropped=self._dropped_total,
            unencodable=self._unencodable,
            connected=self._connected,
        )

    def close(self, timeout_s: float = 10.0) -> bool:
        """Send what is left, for at most `timeout_s`; the rest stays in the spool. True when Redis has everything."""
        atexit.unregister(self.close)
        self._deadline = time.monotonic() + timeout_s
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s + 5)
        return not self._queue and self._spooled_bytes == 0

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        if name == "start":
            return str(doc.get("uid", ""))
        run = doc.get("run_start")
        if run is not None:
            if name == "stop":
                self._runs = {descriptor: r for descriptor, r in self._runs.items() if r != run}
            elif name == "descriptor":
                self._runs[str(doc.get("uid"))] = str(run)
            return str(run)
        return self._runs.get(str(doc.get("descriptor")), "")

    def _drop(self, record: Record) -> None:
        self._dropped_total += 1
        with self._lock:
            self._dropped[record.run] = self._dropped.get(record.run, 0) + 1

    def _run(self) -> None:
        while True:
            try:
                if self._step():
                    break
            except Exception as error:  # the thread must outlive anything
                _log_quietly("publisher_error", error)
                self._closing.wait(_RETRY_S)
        if self._spool:
            self._spool.close()
        self._link.close()

    def _step(self) -> bool:
        """Send what is there; True when the thread may end."""
        closing = self._closing.is_set()  # read first: what was queued before the close is seen by `idle`
        idle = not self._queue and (self._spool is None or self._spool.empty) and not self._is_to_meet()
        if closing:
            if idle:
                return True
            if time.monotonic() > self._deadline:
                self._to_spool()
                return True
        elif idle:
            self._wake.wait()
            if not self._closing.is_set():
                time.sleep(_LINGER_S)  # gathers a batch; the queue is short, the latency stays small
        self._wake.clear()
        try:
            self._meet_server()
            self._report_drops()
            self._drain_spool()
            self._drain_queue()
            if not self._connected:
                log.info("redis_reconnected", sent=self._sent)
            self._connected = True
        except redis.RedisError as error:
            if self._connected:
                log.warning("redis_unavailable_spooling", error=str(error))
            self._connected = self._met = False
            self._to_spool()
            self._closing.wait(_RETRY_S) if not self._closing.is_set() else time.sleep(_RETRY_S / 4)
            self._wake.set()
        return False

    def _is_to_meet(self) -> bool:
        return not self._met and self._spool is not None and self._spool.has_foreign

    def _meet_server(self) -> None:
        """Ask the server who it is: what was spooled for it under another URL is sent too."""
        if self._met or self._spool is None:
            return
        try:
            self._spool.meet(self._link.server_name())
        except (redis.ResponseError, OSError, ValueError) as error:  # keys that we may not use: other URLs stay apart
            if isinstance(error, redis.RedisError) and not isinstance(error, redis.ResponseError):
                raise
            log.info("server_not_known", error=str(error))
        self._met = True

    def _drain_spool(self) -> None:
        while self._spool is not None and not self._spool.empty:
            if time.monotonic() > self._deadline:
                return
            records = self._spool.peek(_BATCH_RECORDS, _BATCH_BYTES)
            if records:
                self._send(records)
                self._spool.advance()
            self._spooled_bytes = self._spool.size
            if self._queue.is_half_full:
                self._to_spool()

    def _drain_queue(self) -> None:
        while self._queue and (self._spool is None or self._spool.empty):
            records = self._queue.batch(_BATCH_RECORDS, _BATCH_BYTES)
            self._send(records)
            self._queue.remove(len(records))
            if self._queue.is_half_full:
                self._to_spool()

    def _send(self, records: list[Record]) -> None:
        self._link.send(records)
        self._sent += len(records)

    def _to_spool(self) -> None:
        if self._spool is None:
            return
        for _ in range(len(self._queue)):
            record = self._queue.first()
            try:
                appended = self._spool.append(record, reserve=0 if record.name in _BULK else _RESERVE)
            except OSError as error:
                _log_quietly("spool_not_written", error)
                break  # stays in memory, which is bounded
            self._queue.remove(1)
            if not appended:
                self._drop(record)
        self._spooled_bytes = self._spool.size
        with suppress(OSError):  # a disk that cannot sync keeps what it keeps
            self._spool.sync()

    def _report_drops(self) -> None:
        if not self._dropped:
            return
        with self._lock:
            dropped, self._dropped = self._dropped, {}
        try:
            for run, n in dropped.items():
                reason = (
                    f"{n} documents of run {run or 'unknown'} were lost at the publisher: memory and spool were full"
                )
                self._link.warn(run, reason)
        except redis.RedisError:
            with self._lock:
                for run, n in dropped.items():
                    self._dropped[run] = self._dropped.get(run, 0) + n
            raise


def _open_spool(spool_dir: str | Path | None, url: str, max_bytes: int) -> Spool | None:
    try:
        if spool_dir is None:
            state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
            spool_dir = state / "quietbeam" / "spool"
        return Spool(Path(spool_dir), url, max_bytes=max_bytes)
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        log.warning(
            "spool_unavailable",
            folder=str(spool_dir),
            error=str(error),
            remedy="give spool_dir a folder that is writable",
        )
        return None


def _log_quietly(event: str, error: Exception) -> None:
    try:
        log.warning(event, error=f"{type(error).__name__}: {error}"[:500])
    except Exception:
        return
