"""The publish stage: keeps Tiled equal to the buffer.

Level-triggered, also after a restart: wake-ups (``qb:maps``) say which rows changed; the versions in the buffer and in
the run's state hash say whether one was missed. Nothing is queued but bands of rows, so an outage of Tiled costs no
memory and delays nobody.
"""

from __future__ import annotations

import time

import httpx
import redis
import structlog

from quietbeam.core.errors import DamagedRunError, NotMeasuredError, ServiceError
from quietbeam.core.process.outage import redis_outage
from quietbeam.core.settings import Settings
from quietbeam.core.wire import metrics, runs
from quietbeam.core.wire.bus import Connection, emit

from .outbox import OUTAGE_S, Parcel
from .publication import Publication
from .removal import Removal
from .tiled_api import TiledApi, TiledAwayError, TiledMissingError, TiledRefusedError
from .tracker import ActiveRun, RunTracker
from .update import RunUpdater

log = structlog.get_logger()

_BLOCK_MS = 200
_DRAIN_S = 8.0


class PublishStage:
    """Sends maps, evidence and provenance to Tiled.

    Parameters
    ----------
    settings
        Where Tiled is, and how often a run is updated.
    connection
        Redis client.
    transport
        Replaces the network to Tiled (for tests).
    """

    name = "publish"

    def __init__(
        self, settings: Settings, connection: Connection, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._redis = connection
        self._api = TiledApi(
            settings.tiled_uri, settings.tiled_api_key(), transport=transport, network=settings.network
        )
        self._tracker = RunTracker(settings, connection, lambda buffer: Publication(self._api, settings, buffer))
        self._updater = RunUpdater(settings, connection, self._api)
        self._removal = Removal(connection, self._api, settings.tiled.root)
        self._outage_failures = 0
        self._outage_until = 0.0
        self._refusal = ""

    def step(self) -> bool:
        """Read wake-ups, scan the runs now and then, send one update of the run that waits longest."""
        found = self._tracker.read_wake_ups(_BLOCK_MS if self._next_parcel() is None else None)
        self._tracker.scan()
        for uid in self._removal.poll():
            self._tracker.finish(uid)
        parcel = self._next_parcel()
        if parcel is None:
            return found
        self._send(self._tracker.active[parcel.uid])
        return True

    def recover(self) -> None:
        """Start again after an outage of Redis."""
        self._tracker.restart()
        self._removal.restart()

    def close(self) -> None:
        """Send what waits, as far as Tiled accepts it within `_DRAIN_S`."""
        deadline = time.monotonic() + _DRAIN_S
        try:
            while self._tracker.read_wake_ups(None):
                pass
            for active in list(self._tracker.active.values()):
                if self._outage_failures or time.monotonic() > deadline:
                    break
                if active.parcel.waiting:
                    self._send(active)
        finally:
            self._api.close()

    def detail(self) -> str:
        """Return a sentence for the heartbeat."""
        active = self._tracker.active.values()
        return f"{sum(one.parcel.waiting for one in active)} of {len(active)} active runs have news for Tiled"

    def trouble(self) -> str:
        """Return what is wrong, for the heartbeat; empty while Tiled answers."""
        if self._outage_failures:
            return "Tiled does not answer: maps are kept here and sent when it is back. Publish retries."
        return self._refusal

    def _next_parcel(self) -> Parcel | None:
        return None if time.monotonic() < self._outage_until else self._tracker.next_parcel()

    def _send(self, active: ActiveRun) -> None:
        try:
            self._try_to_send(active)
        except redis.ResponseError as error:
            reason = redis_outage(error)
            if not reason:
                raise
            # What was sent cannot be recorded; sending it again is harmless.
            active.parcel.failed(reason)
            if not self._refusal:
                log.warning("redis_refuses", run=active.parcel.uid, waits_for=f"{reason}.", error=str(error))
            self._refusal = f"{reason}. Publish retries."
        except NotMeasuredError:
            self._tracker.drop(active.parcel.uid, "its buffer was deleted")
        except DamagedRunError as error:
            self._tracker.drop_damaged(active.parcel.uid, error)
        except redis.RedisError:
            raise
        except Exception as error:  # an internal error in one run ends no other; it is tried again, ever more rarely
            log.exception("publish_failed", run=active.parcel.uid)
            metrics.count(self._redis, "quietbeam_tiled_publish_failures_total")
            active.parcel.failed(f"internal error: {type(error).__name__}: {error}")
            self._report(active, "failed", active.parcel.reason)
        else:
            self._refusal = ""

    def _try_to_send(self, active: ActiveRun) -> None:
        parcel = active.parcel
        try:
            final = self._updater.update(active)
        except TiledAwayError as error:
            metrics.count(self._redis, "quietbeam_tiled_publish_failures_total")
            self._outage_until = time.monotonic() + OUTAGE_S[min(self._outage_failures, len(OUTAGE_S) - 1)]
            self._outage_failures += 1
            if self._outage_failures == 1:
                log.warning("tiled_unavailable", error=str(error))
            for other in self._tracker.active.values():
                self._report(other, "waiting", f"{error}; the maps are kept here and sent when it is back")
            return
        except ServiceError as error:
            metrics.count(self._redis, "quietbeam_tiled_publish_failures_total")
            if isinstance(error, TiledMissingError):
                active.publication.forget_nodes()
                parcel.whole = True
            if str(error) != parcel.reason:
                log.warning("publish_failed", run=parcel.uid, error=str(error))
            parcel.failed(str(error))
            lasting = isinstance(error, TiledRefusedError) and not isinstance(error, TiledMissingError)
            self._report(active, "failed" if lasting else "waiting", str(error))
            return
        if self._outage_failures:
            log.info("tiled_reconnected", failures=self._outage_failures)
        self._outage_failures, self._outage_until = 0, 0.0
        self._report(active, "final" if final else "live", "")
        if final:
            self._tracker.finish(parcel.uid)

    def _report(self, active: ActiveRun, state: str, reason: str) -> None:
        """Write state and reason to the run's hash, where the API and the dashboard show them."""
        if active.reported == (state, reason):
            return
        runs.write_status(self._redis, active.parcel.uid, publish_state=state, publish_reason=reason)
        emit(self._redis, "run", active.parcel.uid, publish_state=state, publish_reason=reason)
        active.reported = state, reason
