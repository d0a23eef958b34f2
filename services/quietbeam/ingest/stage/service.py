"""The ingest stage: documents from every source, rows to disk, then acknowledgement; states and wake-ups to Redis."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

import redis
import structlog

from quietbeam.buffer import RunBuffer, list_buffers
from quietbeam.core.errors import DocumentError, NotMeasuredError, ServiceError
from quietbeam.core.model.types import RunState
from quietbeam.core.process.failpoint import failpoint
from quietbeam.core.settings import Settings
from quietbeam.core.wire import bus, keys, metrics, runs
from quietbeam.core.wire.bus import Connection

from ..documents import model as documents
from ..documents.delivery import AckQueue, Pending
from ..documents.model import Descriptor, Document, Resource, Start, Stop, StreamResource
from ..frames.detector_files import DetectorFiles
from ..profile.schema import load_profile
from ..run.assembly import RunAssembly
from ..run.results import PollResult, RowsWritten
from ..run.router import ORPHAN_S, RunRouter
from ..transports import DocumentSource, ReceivedDocument, make_source
from .retention import Keeping

log = structlog.get_logger()

STATUS_S = 0.25
TRIM_S = 5.0
FORGET_S = 60.0
CONTEXT_KEPT_S = 7 * 24 * 3600
QUARANTINED_PER_RUN = 50
MAX_OPEN_RUNS = 256
MAX_STRAY = 20_000
_RANK = {"start": 0, "descriptor": 1, "stream_resource": 2, "resource": 2, "stop": 3}
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES})


class IngestStage:
    """Turns documents into rows of counts (:class:`quietbeam.core.process.stage.Stage`).

    Parameters
    ----------
    settings
        All settings.
    connection
        Redis client of this stage.
    sources
        Default: those that ``ingest.sources`` names.

    Raises
    ------
    ServiceError
        Another ingest writes to the same data_dir.
    """

    name = "ingest"

    def __init__(
        self, settings: Settings, connection: Connection, sources: Sequence[DocumentSource] | None = None
    ) -> None:
        self._settings, self._redis = settings, connection
        self._profiles = [load_profile(name) for name in settings.ingest.profiles]
        settings.runs_dir.mkdir(parents=True, exist_ok=True)
        self._lock = _single_writer(settings)
        self._files = DetectorFiles(
            [settings.data_dir, *settings.ingest.data_roots], max_bytes=settings.ingest.max_spectrum_bytes
        )
        self._sources = list(sources or (make_source(url, settings, connection) for url in settings.ingest.sources))
        self._runs: dict[str, RunRouter] = {}
        self._rows_written: list[RowsWritten] = []
        self._acks: dict[str, AckQueue] = {}
        self._status_at: dict[str, float] = {}
        self._states: dict[str, tuple[RunState, bool]] = {}
        self._revisions: dict[str, int] = {}
        self._contexts: dict[str, dict[str, bytes]] = {}
        self._set_aside: OrderedDict[str, int] = OrderedDict()
        self._run_of: OrderedDict[str, str] = OrderedDict()  # run by uid of a descriptor or resource
        self._inbox: deque[tuple[int, ReceivedDocument]] = deque()
        self._stray: deque[tuple[float, int, ReceivedDocument]] = deque()
        self._acknowledged: list[Pending] = []
        self._counters: dict[str, float] = {}
        self._next_trim = 0.0
        self._blocked_until = 0.0
        self._backoff = 0.0
        self._rebuild()
        self._redis.setnx(keys.EPOCH, time.time())
        self._keeping = Keeping(settings, connection, self._let_go)

    # --- the stage ----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Take one batch of documents, write what is due, acknowledge; False when nothing happened."""
        now = time.monotonic()
        if self._backoff and now < self._blocked_until:
            return False
        worked = False
        try:
            if not self._backoff and not self._inbox:
                self._receive()
            worked = bool(self._inbox)
            while self._inbox:
                source, document = self._inbox[0]
                self._handle(source, document)
                self._inbox.popleft()
            worked |= self._turn() | self._keeping.turn()
            self._unblock()
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self._block(f"the disk refuses ({error.strerror}); make room at {self._settings.data_dir}")
        except redis.OutOfMemoryError:
            self._block("Redis is full; raise its maxmemory")
        self._send()
        return worked

    def recover(self) -> None:
        """Redis is back: write what is in hand, tell Redis what it may have lost, read again what is unacknowledged."""
        for uid, run in self._runs.items():
            self._rows_written += run.flush()
            for field, payload in self._contexts.get(uid, {}).items():
                self._redis.hset(keys.context(uid), field, payload)
            self._registered(run)
        self._rebuild()
        self._redis.setnx(keys.EPOCH, time.time())
        self._keeping.restart()
        for source in self._sources:
            source.reset()

    def close(self) -> None:
        """Write and acknowledge everything in hand."""
        try:
            for uid, run in self._runs.items():
                try:
                    self._rows_written += run.flush()
                except OSError as error:
                    log.error("rows_not_written", run=uid, error=str(error))
                self._write_statuses(run, force=True)
            self._send()
        finally:
            for source in self._sources:
                source.close()
            self._files.close()
            os.close(self._lock)

    # --- documents ----------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        # Every source gets its turn; only the first one may wait.
        timeout = 0.02 if len(self._sources) > 1 or any(not run.idle for run in self._runs.values()) else 0.2
        for number, source in reversed(list(enumerate(self._sources))):
            received = source.receive(timeout if number == 0 and not self._inbox else 0.001)
            self._inbox.extend((number, document) for document in received)
            self._count("quietbeam_documents_received_total", len(received))

    def _handle(self, source: int, received: ReceivedDocument) -> None:
        now = time.monotonic()
        uid = received.run
        try:
            document = documents.decode(received.name, received.payload)
            uid = self._uid_of(document, received.run)
        except DocumentError as error:
            self._quarantine(received, uid, str(error))
            self._done(uid, source, received.token)
            return
        if not uid:
            self._stray.append((now, source, received))
            return
        pending = self._acks.setdefault(uid, AckQueue()).deliver(source, received.token)
        try:
            refused = self._take(uid, source, document, received, pending)
            if refused:
                self._quarantine(received, uid, refused)
        except (OSError, redis.RedisError):
            self._acks[uid].withdraw(pending)
            raise  # it stays in the inbox and is taken again
        pending.release()

    def _take(self, uid: str, source: int, document: Document, received: ReceivedDocument, pending: Pending) -> str:
        """Give a document to its run; return why it cannot be used, or ''."""
        try:
            run = self._runs.get(uid) or self._open(uid, source)
            if isinstance(document, Start | Descriptor | StreamResource | Resource | Stop):
                self._keep_context(uid, document, received)
            run.handle_document(document, pending, time.monotonic())
            if isinstance(document, Start):
                self._registered(run)
        except DocumentError as error:
            return str(error)
        except (OSError, redis.RedisError):
            raise
        except Exception as error:
            log.exception("document_failed", run=uid, name=received.name)
            return f"internal error: {type(error).__name__}: {error}"
        return ""

    def _uid_of(self, document: Document, run: str) -> str:
        uid: str = getattr(document, "run", "") or run
        defines = isinstance(document, Descriptor | Resource)
        own = (
            getattr(document, "uid", "")
            if defines
            else getattr(document, "descriptor", getattr(document, "resource", ""))
        )
        if not uid:
            return self._run_of.get(own, "")
        if len(uid) > 64 or not uid.replace("-", "").replace("_", "").isalnum() or not uid.isascii():
            raise DocumentError(f"run uid {uid[:80]!r} is not allowed: use letters, digits, '-' and '_' (at most 64)")
        if defines:
            self._run_of[own] = uid
            while len(self._run_of) > 100_000:
                self._run_of.popitem(last=False)
        return uid

    def _open(self, uid: str, source: int) -> RunRouter:
        """Return the run, with what is known of it from before."""
        self._forget_runs()
        run = RunRouter(uid, self._settings, self._profiles, self._files, source=self._sources[source].name)
        known: Any = self._redis.hgetall(keys.context(uid))
        now = time.monotonic()
        for field in sorted(known):
            rank, name, _ = field.decode(errors="replace").split(":", 2)
            try:
                document = documents.decode(name, known[field])
                self._uid_of(document, uid)
                run.handle_document(document, Pending(source, b""), now)
            except DocumentError as error:
                log.warning("context_refused", run=uid, name=name, rank=rank, error=str(error))
        status = runs.read_status(self._redis, uid)
        if known and status is not None:
            run.condition.restore(status.state, status.warnings)
        if run.assembly is not None:
            run.assembly.buffer.sweep_partials()
        if known:
            self._contexts[uid] = {field.decode(errors="replace"): payload for field, payload in known.items()}
        self._runs[uid] = run
        return run

    def _keep_context(self, uid: str, document: Document, received: ReceivedDocument) -> None:
        own = getattr(document, "uid", "") or uid
        field = f"{_RANK[received.name]}:{received.name}:{own}"
        with self._redis.pipeline() as pipe:
            pipe.hsetnx(keys.context(uid), field, received.payload)
            pipe.expire(keys.context(uid), CONTEXT_KEPT_S)
            pipe.execute()
        self._contexts.setdefault(uid, {}).setdefault(field, received.payload)

    def _registered(self, run: RunRouter) -> None:
        for reported in run.reported():
            if reported.time_start is not None:
                runs.register_run(self._redis, reported.uid, reported.time_start)
        self._write_statuses(run, force=True)

    def _done(self, uid: str, source: int, token: bytes) -> None:
        """Acknowledge a document that has no effect, in its turn."""
        self._acks.setdefault(uid, AckQueue()).deliver(source, token).release()

    def _quarantine(self, received: ReceivedDocument, uid: str, reason: str) -> None:
        self._count("quietbeam_documents_quarantined_total", 1)
        run = self._runs.get(uid)
        if run is not None:
            run.condition.count_refused(reason)
        n = self._set_aside[uid] = self._set_aside.get(uid, 0) + 1
        self._set_aside.move_to_end(uid)
        while len(self._set_aside) > 1000:
            self._set_aside.popitem(last=False)
        if n > QUARANTINED_PER_RUN and n % 1000:
            return
        log.warning("document_quarantined", run=uid, name=received.name[:64], reason=reason, n=n)
        bus.quarantine(self._redis, run=uid, name=received.name[:64], reason=reason, payload=received.payload)

    # --- rows, states, acknowledgement --------------------------------------------------------------------------

    def _turn(self) -> bool:
        now = time.monotonic()
        self._retry_strays(now)
        written = False
        for run in list(self._runs.values()):
            try:
                result = run.poll(now)
            except (OSError, redis.RedisError):
                raise
            except Exception as error:  # one run's trouble never ends the others
                log.exception("run_failed", run=run.uid)
                run.give_up(f"internal error: {type(error).__name__}: {error}")
                result = PollResult()
            written |= bool(result.rows_written)
            self._rows_written += result.rows_written
            for refused in result.refused:
                received = ReceivedDocument(token=b"", name=refused.name, run=run.uid, payload=b"")
                self._quarantine(received, run.uid, refused.reason)
            self._write_statuses(run)
        return written

    def _retry_strays(self, now: float) -> None:
        """Look again at documents of an unknown run: their descriptor may have come."""
        for _ in range(len(self._stray)):
            since, source, received = self._stray[0]
            uid = self._uid_of(documents.decode(received.name, received.payload), "")
            if uid:
                self._handle(source, received)
            elif now - since > ORPHAN_S or len(self._stray) > MAX_STRAY:
                self._quarantine(received, "", f"{received.name} of a run whose descriptor was not seen")
                self._done("", source, received.token)
            else:
                self._stray.append((since, source, received))
            self._stray.popleft()

    def _write_statuses(self, run: RunRouter, *, force: bool = False) -> None:
        for reported in run.reported():
            self._write_status(reported, force=force)

    def _write_status(self, run: RunRouter | RunAssembly, *, force: bool = False) -> None:
        now, condition = time.monotonic(), run.condition
        since = now - self._status_at.get(run.uid, 0.0)
        state = (condition.state, run.info is not None)
        news = self._states.get(run.uid) != state
        touched = condition.last_document > self._status_at.get(run.uid, 0.0) and since > 1.0
        changed = self._revisions.get(run.uid) != condition.revision
        if not (force or news or touched or (changed and since > STATUS_S)):
            return
        if news and run.time_start is not None:
            runs.register_run(self._redis, run.uid, run.time_start)
        if run.time_start is None:
            if self._is_buffered(run.uid):  # what is on disk stays as it is; only the warning is new
                runs.write_status(self._redis, run.uid, warnings=[*condition.warnings, condition.reason])
                self._states[run.uid], self._status_at[run.uid] = state, now
                return
            runs.register_run(self._redis, run.uid, time.time())
        seconds_ago = now - condition.last_document
        runs.write_status(self._redis, run.uid, **run.status(), last_document_at=time.time() - seconds_ago)
        self._status_at[run.uid], self._states[run.uid] = now, state
        self._revisions[run.uid] = condition.revision
        if news:
            bus.emit(self._redis, "run", run.uid, state=condition.state.value, reason=condition.reason)

    def _is_buffered(self, uid: str) -> bool:
        try:
            RunBuffer.open(self._settings.runs_dir, uid)
        except NotMeasuredError:
            return False
        return True

    def _send(self) -> None:
        """Wake the others up, then acknowledge: everything before this is on disk."""
        try:
            self._wake_others()
        except redis.OutOfMemoryError:
            log.warning("redis_full", remedy="raise maxmemory; wake-ups are lost, counts are not")
            self._next_trim = 0.0
        for queue in self._acks.values():
            self._acknowledged += queue.pop_done()
        if self._acknowledged:
            for number, source in enumerate(self._sources):
                source.acknowledge([p.token for p in self._acknowledged if p.source == number])
            self._acknowledged.clear()
        now = time.monotonic()
        if now >= self._next_trim:
            self._next_trim = now + TRIM_S
            for uid in [uid for uid, queue in self._acks.items() if not len(queue) and uid not in self._runs]:
                del self._acks[uid]
            self._forget_runs()
            if not self._redis.exists(keys.EPOCH):
                log.error("redis_lost_its_data", remedy="check its persistence and who flushes it")
                self.recover()
            if any(source.name == "redis" for source in self._sources):
                bus.trim_acknowledged(self._redis, keys.DOCS)
            bus.trim_older(self._redis, keys.ROWS)
            bus.trim_older(self._redis, keys.EVENTS)

    def _wake_others(self) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            written, self._rows_written = self._rows_written, []
            for rows in written:
                self._count("quietbeam_rows_committed_total", len(rows.rows))
                failpoint("ingest.after_write")
                for row in dict.fromkeys(rows.rows):
                    pipe.xadd(keys.ROWS, {"run": rows.run, "row": row, "at": repr(time.time())})
                    bus.emit(pipe, "row", rows.run, row=row, pixels_measured=rows.pixels_measured)
                metrics.gauge(pipe, "quietbeam_row_commit_seconds", max(0.0, time.monotonic() - rows.last_document))
            for name, amount in self._counters.items():
                metrics.count(pipe, name, amount)
            self._counters.clear()
            if len(pipe):
                pipe.execute()

    def _count(self, name: str, amount: float) -> None:
        if amount:
            self._counters[name] = self._counters.get(name, 0) + amount

    # --- trouble and memory -------------------------------------------------------------------------------------

    def _block(self, reason: str) -> None:
        if not self._backoff:
            log.error("ingest_waits", reason=reason)
            for run in self._runs.values():
                if not run.condition.state.ended:
                    run.condition.warn(f"ingest waited: {reason}")
        self._backoff = min(5.0, max(0.1, self._backoff * 2))
        self._blocked_until = time.monotonic() + self._backoff

    def _unblock(self) -> None:
        if self._backoff:
            log.info("ingest_goes_on")
            self._backoff = 0.0

    def _forget_runs(self) -> None:
        """Drop runs that ended, or slept the longest when there are too many; they come back from their context."""
        now = time.monotonic()
        for uid, run in sorted(self._runs.items(), key=lambda item: item[1].condition.last_document):
            over = len(self._runs) >= MAX_OPEN_RUNS
            state = run.condition.state
            old = (state.ended or state is RunState.STALE) and now - run.condition.last_document > FORGET_S
            if (old or over) and run.idle and not len(self._acks.get(uid, ())):
                self._write_statuses(run, force=True)
                self._drop(uid)

    def _let_go(self, uid: str) -> bool:
        """Forget a run that is to be deleted; False while something of it is not on disk or not acknowledged."""
        if any(run.maps is not None and not run.maps.drop(uid) for run in self._runs.values()):
            return False
        run = self._runs.get(uid)
        if len(self._acks.get(uid, ())) or (run is not None and not run.idle):
            return False
        self._drop(uid)
        return True

    def _drop(self, uid: str) -> None:
        for memory in (self._runs, self._acks, self._status_at, self._states, self._revisions, self._contexts):
            memory.pop(uid, None)

    def _rebuild(self) -> None:
        """Give Redis the runs that only the disk knows, and open the ones that are not over."""
        for uid in list_buffers(self._settings.runs_dir):
            if uid in self._runs or self._redis.exists(keys.run(uid)):
                continue
            try:
                buffer = RunBuffer.open(self._settings.runs_dir, uid)
                kept, measured = buffer.state(), buffer.measured()
            except (NotMeasuredError, KeyError, ValueError, TypeError) as error:
                log.warning("buffer_unreadable", run=uid, error=str(error))
                continue
            state, reason = RunState(kept.get("state", "stale")), str(kept.get("reason", ""))
            if not state.ended:
                state, reason = RunState.STALE, "Redis lost this run while it was running; its rows on disk are safe"
            runs.register_run(self._redis, uid, buffer.info.time_start)
            runs.write_status(
                self._redis,
                uid,
                info=buffer.info,
                state=state.value,
                reason=reason,
                warnings=kept.get("warnings", []),
                pinned=int(bool(kept.get("pinned"))),
                rows_measured=int(measured.all(axis=1).sum()),
                pixels_measured=int(measured.sum()),
            )
            bus.emit(self._redis, "run", uid, state=state.value, reason=reason)
            log.info("run_rebuilt", run=uid, state=state.value)
        for uid in runs.list_runs(self._redis, limit=MAX_OPEN_RUNS // 2):
            status = runs.read_status(self._redis, uid)
            waiting = status is not None and status.state in (RunState.RUNNING, RunState.PAUSED)
            owner = (status.info.stack[0] if status is not None and status.info is not None else "") or uid
            if owner not in self._runs and waiting and self._redis.exists(keys.context(owner)):
                self._open(owner, 0)
            elif status is not None and status.state is RunState.STALE:
                self._know_descriptors(owner)  # a transport that does not name the run may still bring its events

    def _know_descriptors(self, uid: str) -> None:
        fields: Any = self._redis.hkeys(keys.context(uid))
        for field in fields:
            _, name, own = field.decode(errors="replace").split(":", 2)
            if name in ("descriptor", "resource"):
                self._run_of[own] = uid


def _single_writer(settings: Settings) -> int:
    """Take the lock of the one ingest that may write below data_dir."""
    path = settings.data_dir / "ingest.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ServiceError(
            f"another ingest writes to {settings.data_dir}; stop it, or give this one its own data_dir"
        ) from error
    return descriptor
