"""The ingest stage: documents from every source, rows to disk, then acknowledgement; states and wake-ups to Redis."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import redis
import structlog

from quietbeam.core.errors import DocumentError, ServiceError
from quietbeam.core.model.types import RunState
from quietbeam.core.process.backoff import Backoff
from quietbeam.core.process.disk import make_folder
from quietbeam.core.process.lock import HeldError, acquire
from quietbeam.core.process.outage import disk_outage, redis_outage
from quietbeam.core.settings import Settings
from quietbeam.core.wire import bus, keys, runs
from quietbeam.core.wire.bus import Connection

from ..documents.delivery import Deliveries, Pending
from ..documents.model import Start
from ..documents.parse import decode
from ..run.results import PollResult
from ..run.router import ORPHAN_S
from ..transports import DocumentSource, ReceivedDocument, make_source
from .announcer import Announcer
from .context import ContextStore
from .group_commit import GroupCommit
from .recovery import show_buffers, unended_runs
from .refusals import Refusals
from .registry import MAX_OPEN_RUNS, OpenRun, RunRegistry
from .retention import Retention
from .status import StatusWriter
from .strays import StrayDocuments

log = structlog.get_logger()

TRIM_S = 5.0


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
        settings.make_data_dir()
        make_folder(settings.runs_dir)
        try:
            self._lock = acquire(settings.data_dir / "ingest.lock")
        except HeldError as error:
            raise ServiceError(
                f"another ingest (process {error.pid}) writes to {settings.data_dir}",
                remedy="stop it, or give this one its own data_dir",
            ) from error
        self._sources = list(sources or self._open_sources())
        self._contexts = ContextStore(connection)
        self._runs = RunRegistry(settings, self._contexts)
        self._deliveries = Deliveries()
        self._status = StatusWriter(connection, settings.runs_dir)
        self._announcer = Announcer(connection)
        self._refusals = Refusals(connection, self._runs, self._deliveries, self._announcer)
        self._commit = GroupCommit(settings.runs_dir, on=settings.ingest.fsync)
        self._retention = Retention(settings, connection, self._release)
        self._backoff = Backoff()
        self._inbox: deque[tuple[int, ReceivedDocument]] = deque()
        self._strays = StrayDocuments()
        self._acknowledged: list[Pending] = []
        self._next_trim = 0.0
        self._restored = False
        try:
            self._restore()
        except (OSError, redis.RedisError) as error:  # the first step tries again
            if not disk_outage(error) and not redis_outage(error):
                raise

    # --- the stage ----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Handle one batch of documents, write what is due, acknowledge; False when nothing happened."""
        now = time.monotonic()
        if self._backoff.pauses(now):
            return False
        worked = False
        try:
            if not self._restored:
                self._restore()
            if not self._backoff.seconds and not self._inbox:
                self._receive()
            worked = bool(self._inbox)
            while self._inbox:
                if not self._handle(*self._inbox[0]):
                    self._strays.add(now, *self._inbox[0])
                self._inbox.popleft()
            self._strays.retry(now, ORPHAN_S, self._handle, self._refusals.give_up_stray)
            worked |= self._poll_runs(now)
            self._refusals.flush()
            worked |= self._retention.poll()
            if self._backoff.succeeded():
                log.info("ingest_backoff_ended")
        except OSError as error:
            self._back_off_from(error)
        except redis.OutOfMemoryError as error:
            self._back_off(redis_outage(error))
        self._announce()
        self._acknowledge()
        if now >= self._next_trim:
            self._next_trim = now + TRIM_S
            self._trim()
        return worked

    def trouble(self) -> str:
        """Return what is wrong, for the heartbeat; empty while all can be written."""
        return self._backoff.reason

    def recover(self) -> None:
        """Write what is in memory, write to Redis what it may have lost, read again what is unacknowledged."""
        for run in self._runs:
            self._announcer.add_rows(run.router.flush())
            self._contexts.write_again(run.uid, run.context)
            self._status.write(run.router.reported(), run.shown, force=True)
        self._restore()
        self._retention.restart()
        for source in self._sources:
            source.reset()

    def close(self) -> None:
        """Write and acknowledge everything in memory."""
        try:
            for run in self._runs:
                try:
                    self._announcer.add_rows(run.router.flush())
                except OSError as error:
                    log.error("rows_not_written", run=run.uid, error=str(error))
                self._status.write(run.router.reported(), run.shown, force=True)
            self._announce()
            self._acknowledge(wait=True)
            self._runs.end_writing()
        finally:
            for source in self._sources:
                source.close()
            self._runs.close()
            self._commit.close()
            self._lock.release()

    def _open_sources(self) -> list[DocumentSource]:
        """Open every source, or none: what is away is tried again with a new stage."""
        opened: list[DocumentSource] = []
        try:
            opened.extend(make_source(url, self._settings, self._redis) for url in self._settings.ingest.sources)
        except BaseException:
            for source in opened:
                source.close()
            self._lock.release()
            raise
        return opened

    # --- documents ----------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Read every source; only the first one is waited for."""
        timeout = 0.02 if len(self._sources) > 1 or any(not run.router.idle for run in self._runs) else 0.2
        for number, source in reversed(list(enumerate(self._sources))):
            received = source.receive(timeout if number == 0 and not self._inbox else 0.001)
            self._inbox.extend((number, document) for document in received)
            self._announcer.count("quietbeam_documents_received_total", len(received))

    def _handle(self, source: int, received: ReceivedDocument) -> bool:
        """Decode a document and give it to its run; False when its run is not known.

        Raises
        ------
        OSError, redis.RedisError
            The disk or Redis cannot take it; call again with the same document.
        """
        uid = received.run
        try:
            document = decode(received.name, received.payload)
            uid = self._runs.uid_of(document, received.run)
        except DocumentError as error:
            self._refusals.refuse_unknown(source, received, uid, str(error))
            return True
        if not uid:
            return False
        pending = self._deliveries.deliver(uid, source, received.token, len(received.payload))
        try:
            run = self._runs.get(uid) or self._open(uid, self._sources[source].name)
            self._contexts.keep(uid, run.context, document, received)
            run.router.handle_document(document, pending, time.monotonic())
            if isinstance(document, Start):
                self._status.write(run.router.reported(), run.shown, force=True)
        except DocumentError as error:
            self._refusals.refuse_delivered(uid, pending, received, str(error))
        except (OSError, redis.RedisError):
            self._deliveries.withdraw(uid, pending)
            raise
        except Exception as error:
            log.exception("document_failed", run=uid, name=received.name)
            self._refusals.refuse_delivered(uid, pending, received, f"internal error: {type(error).__name__}: {error}")
        pending.release()
        return True

    # --- runs ---------------------------------------------------------------------------------------------------

    def _open(self, uid: str, source: str) -> OpenRun:
        self._forget_runs()
        return self._runs.open(uid, source, runs.read_status(self._redis, uid))

    def _poll_runs(self, now: float) -> bool:
        """Let every run write what is due; True when rows were written."""
        worked = False
        for run in self._runs:
            try:
                result = run.router.poll(now)
            except OSError:
                raise
            except Exception as error:  # an internal error in one run ends no other
                log.exception("run_failed", run=run.uid)
                run.router.give_up(f"internal error: {type(error).__name__}: {error}")
                result = PollResult()
            worked |= bool(result.rows_written)
            self._announcer.add_rows(result.rows_written)
            for refused in result.refused:
                run.router.count_refused(refused)
            self._refusals.add(result.refused)
            self._status.write(run.router.reported(), run.shown)
        return worked

    def _forget_runs(self) -> None:
        """Drop runs that ended, and the longest silent ones of too many; none with something that is not on disk."""
        for run in self._runs.forgettable():
            if not self._deliveries.unacknowledged(run.uid):
                self._status.write(run.router.reported(), run.shown, force=True)
                self._runs.drop(run.uid)

    def _release(self, uid: str) -> bool:
        """Drop a run that is to be deleted; False while something of it is not on disk or not acknowledged."""
        return not self._deliveries.unacknowledged(uid) and self._runs.release(uid)

    def _restore(self) -> None:
        """Show in Redis the runs that only the disk has, and open the ones that have not ended."""
        show_buffers(self._redis, self._settings.runs_dir, lambda uid: self._runs.get(uid) is not None)
        for uid, state in unended_runs(self._redis, MAX_OPEN_RUNS // 2):
            if state is RunState.STALE:
                self._runs.index_descriptors(uid)
            elif self._runs.get(uid) is None and self._contexts.exists(uid):
                self._open(uid, self._sources[0].name if self._sources else "")
        self._redis.setnx(keys.EPOCH, time.time())
        self._restored = True

    # --- Redis --------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Wake up the other stages; everything that is announced is on disk."""
        try:
            self._announcer.send()
        except redis.OutOfMemoryError as error:
            log.warning("redis_refuses", waits_for=redis_outage(error), remedy="wake-ups are lost, counts are not")
            self._next_trim = 0.0

    def _acknowledge(self, *, wait: bool = False) -> None:
        """Acknowledge documents whose rows are on disk; with `wait`, all that are done."""
        written = [path for run in self._runs for path in run.router.take_writes()]
        self._commit.add(written, self._deliveries.pop_done())
        self._acknowledged += self._commit.finish() if wait else self._commit.poll()
        if self._acknowledged:
            for number, source in enumerate(self._sources):
                source.acknowledge([p.token for p in self._acknowledged if p.source == number])
            self._acknowledged.clear()

    def _trim(self) -> None:
        self._forget_runs()
        if not self._redis.exists(keys.EPOCH):
            log.error("redis_lost_its_data", remedy="check its persistence and who flushes it")
            self.recover()
        if any(source.name == "redis" for source in self._sources):
            bus.trim_acknowledged(self._redis, keys.DOCS)
        bus.trim_older(self._redis, keys.ROWS)
        bus.trim_older(self._redis, keys.EVENTS)

    def _back_off_from(self, error: OSError) -> None:
        """Wait for a disk that cannot be written; raise every other error."""
        reason = disk_outage(error, self._settings.data_dir)
        if not reason:
            raise error
        self._back_off(reason)

    def _back_off(self, reason: str) -> None:
        if self._backoff.failed(f"{reason[:1].upper()}{reason[1:]}. Ingest retries."):
            log.error("ingest_backoff_started", reason=self._backoff.reason)
            for run in self._runs:
                if not run.router.condition.state.ended:
                    run.router.condition.warn(f"ingest waited: {reason}")
