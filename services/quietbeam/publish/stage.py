"""The publish stage: keeps Tiled equal to the buffer.

Level-triggered, also after a restart: wake-ups (``qb:maps``) say which rows changed; the versions in the buffer and in
the run's state hash say whether one was missed. Nothing is queued but bands of rows, so an outage of Tiled costs no
memory and delays nobody.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import redis
import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import NotMeasuredError, ServiceError
from quietbeam.core.model.types import RunState
from quietbeam.core.process.failpoint import failpoint
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection, emit, entries

from .outbox import BACKOFF_S, Parcel, next_due
from .provenance import container_metadata
from .publication import Publication
from .removal import Removal
from .tiled_api import TiledApi, TiledAwayError, TiledBusyError, TiledMissingError, TiledRefusedError

log = structlog.get_logger()

_SCAN_S = 1.0
_SCAN_NEWEST = 50
_DESCRIBE_S = 2.0
_BLOCK_MS = 200
_DRAIN_S = 8.0


@dataclass(slots=True)
class _Active:
    """A run that Tiled does not have in its final form."""

    buffer: RunBuffer
    publication: Publication
    parcel: Parcel
    described: bytes = b""
    described_at: float = -1e9
    seen_version: int = -1
    said: tuple[str, str] = ("", "")
    final_version: int | None = None
    """Version of the final maps that Tiled has, once they were read back."""


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
        self._settings = settings
        self._redis = connection
        self._api = TiledApi(
            settings.tiled_uri, settings.tiled_api_key(), transport=transport, network=settings.network
        )
        self._interval_s = settings.tiled.interval.total_seconds()
        self._active: dict[str, _Active] = {}
        self._done: set[str] = set()
        self._next_scan = 0.0
        self._scan_all = True
        self._away_failures = 0
        self._away_until = 0.0
        self._cursor: bytes | None = None
        self._removal = Removal(connection, self._api, settings.tiled.root)

    # --- Stage --------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Take in wake-ups, look at the runs now and then, send one update of the run that waits longest."""
        heard = self._listen()
        if time.monotonic() >= self._next_scan:
            self._scan()
        for uid in self._removal.turn():
            self._active.pop(uid, None)
            self._done.add(uid)
        parcel = self._next()
        if parcel is None:
            return heard
        self._send(self._active[parcel.uid])
        return True

    def recover(self) -> None:
        """Redis was away: wake-ups and state hashes may be gone."""
        self._done.clear()
        self._removal.restart()
        self._cursor = None
        self._scan_all, self._next_scan = True, 0.0
        for active in self._active.values():
            active.parcel.whole = True
            active.said = ("", "")

    def close(self) -> None:
        """Send what waits, as far as Tiled takes it within some seconds."""
        deadline = time.monotonic() + _DRAIN_S
        try:
            while self._listen(block=False):
                pass
            for active in list(self._active.values()):
                if self._away_failures or time.monotonic() > deadline:
                    break
                if active.parcel.waiting:
                    self._send(active)
        finally:
            self._api.close()

    def detail(self) -> str:
        """Return a sentence for the heartbeat."""
        waiting = sum(a.parcel.waiting for a in self._active.values())
        return f"{waiting} of {len(self._active)} active runs have news for Tiled"

    def trouble(self) -> str:
        """Return what is wrong, for the heartbeat; empty while Tiled takes what it is sent."""
        return "Tiled does not answer: maps are kept here and sent when it is back" if self._away_failures else ""

    # --- what changed -------------------------------------------------------------------------------------------

    def _next(self) -> Parcel | None:
        if time.monotonic() < self._away_until:
            return None
        return next_due([a.parcel for a in self._active.values()])

    def _listen(self, *, block: bool = True) -> bool:
        if self._cursor is None:
            last: Any = self._redis.xrevrange(keys.MAPS, count=1)
            self._cursor = last[0][0] if last else b"0-0"
        wait = _BLOCK_MS if block and self._next() is None else None
        reply: Any = self._redis.xread({keys.MAPS: self._cursor}, count=1024, block=wait)
        heard = False
        for _, entry in entries(reply):
            heard, self._cursor = True, entry.id
            try:
                uid = entry.fields[b"run"].decode()
                first, stop, version = (int(entry.fields[name]) for name in (b"first_row", b"stop_row", b"version"))
            except (KeyError, ValueError):
                log.warning("map_entry_refused", entry=str(entry.id))
                continue
            self._done.discard(uid)
            if (active := self._active.get(uid) or self._take(uid)) is not None:
                active.parcel.changed(first, stop, version)
        return heard

    def _scan(self) -> None:
        """Find new runs, changed states and missed wake-ups."""
        self._next_scan = time.monotonic() + _SCAN_S
        newest = runs.list_runs(self._redis, limit=None if self._scan_all else _SCAN_NEWEST)
        self._scan_all = False
        for uid in newest:
            if uid not in self._active and uid not in self._done:
                self._take(uid)
        for uid, active in list(self._active.items()):
            status = runs.read_status(self._redis, uid)
            if status is None:
                continue
            try:
                attributes = active.buffer.map_attributes()
            except (FileNotFoundError, KeyError):
                self._forget(uid, "its buffer was deleted")
                continue
            version = int(attributes.get("version", 0))
            if version > active.parcel.version and version == active.seen_version:
                log.info("wake_up_missed", run=uid, version=version)
                active.parcel.whole, active.parcel.version = True, version
            active.seen_version = version
            if _digest(container_metadata(self._settings, active.buffer.info, status, attributes)) != active.described:
                active.parcel.described = True

    def _take(self, uid: str) -> _Active | None:
        status = runs.read_status(self._redis, uid)
        if status is None or status.state is RunState.UNUSABLE:
            return None
        try:
            buffer = RunBuffer.open(self._settings.runs_dir, uid)
            version = int(buffer.map_attributes().get("version", 0))
        except (NotMeasuredError, KeyError):
            return None
        if status.publish_state == "final" and status.publish_version >= version:
            self._done.add(uid)
            return None
        publication = Publication(self._api, self._settings, buffer)
        active = _Active(buffer=buffer, publication=publication, parcel=Parcel(uid=uid, version=version))
        self._active[uid] = active
        return active

    def _forget(self, uid: str, why: str) -> None:
        log.warning("run_forgotten", run=uid, why=why)
        self._active.pop(uid, None)
        self._done.add(uid)

    # --- sending ------------------------------------------------------------------------------------------------

    def _send(self, active: _Active) -> None:
        try:
            self._try_to_send(active)
        except redis.OutOfMemoryError as error:
            # What was sent cannot be noted down; sending it again is harmless.
            active.parcel.failed(f"Redis is full: {error}")
            log.warning("redis_full", run=active.parcel.uid, error=str(error))

    def _try_to_send(self, active: _Active) -> None:
        parcel = active.parcel
        try:
            final = self._update(active)
        except TiledAwayError as error:
            metrics.count(self._redis, "quietbeam_tiled_publish_failures_total")
            self._away_until = time.monotonic() + BACKOFF_S[min(self._away_failures, len(BACKOFF_S) - 1)]
            self._away_failures += 1
            if self._away_failures == 1:
                log.warning("tiled_away", error=str(error))
            for other in self._active.values():
                self._say(other, "waiting", f"{error}; the maps are kept here and sent when it is back")
            return
        except ServiceError as error:
            metrics.count(self._redis, "quietbeam_tiled_publish_failures_total")
            if isinstance(error, TiledMissingError):
                active.publication.lost()
                parcel.whole = True
            if str(error) != parcel.reason:
                log.warning("publish_failed", run=parcel.uid, error=str(error))
            parcel.failed(str(error))
            lasting = isinstance(error, TiledRefusedError) and not isinstance(error, TiledMissingError)
            self._say(active, "failed" if lasting else "waiting", str(error))
            return
        except (FileNotFoundError, NotMeasuredError):
            self._forget(parcel.uid, "its buffer was deleted")
            return
        if self._away_failures:
            log.info("tiled_back", failures=self._away_failures)
        self._away_failures, self._away_until = 0, 0.0
        self._say(active, "final" if final else "live", "")
        if final:
            self._active.pop(parcel.uid, None)
            self._done.add(parcel.uid)

    def _update(self, active: _Active) -> bool:
        """Bring Tiled up to date with one run; True when this was the last time."""
        parcel, publication = active.parcel, active.publication
        status = runs.read_status(self._redis, parcel.uid) or runs.RunStatus(uid=parcel.uid)
        attributes = active.buffer.map_attributes()
        metadata = container_metadata(self._settings, active.buffer.info, status, attributes)
        # The version goes first: rows that change while they are read are announced by a later version.
        version = int(attributes.get("version", 0))
        final = status.state.ended and (bool(attributes.get("final")) or status.denoise_state == "failed")
        rows = active.buffer.info.shape[0]
        # A final answer is `published` only once the arrays were read back.
        found = publication.ensure({**metadata, "published": {"version": 0, "final": False}})
        if found is not None and found.get("published", {}).get("final"):
            active.final_version = int(found["published"]["version"])
        if final:
            self._finish(active, metadata, version)
        elif parcel.whole and (version or found is not None):
            publication.write(0, rows)
        elif parcel.rows is not None:
            publication.write(*parcel.rows)
        failpoint("publish.after_write")
        sent = version if parcel.whole or final else parcel.version
        if parcel.whole or parcel.rows is not None or final:
            metrics.count(self._redis, "quietbeam_tiled_updates_total")
        self._redis.hset(keys.run(parcel.uid), mapping={"publish_version": sent, "tiled_path": publication.path})
        digest = _digest(metadata)
        early = time.monotonic() < active.described_at + _DESCRIBE_S
        if not final and digest != active.described and not early:
            self._api.replace_metadata(publication.path, {**metadata, "published": {"version": sent, "final": False}})
            active.described, active.described_at = digest, time.monotonic()
        parcel.version = max(parcel.version, sent)
        parcel.sent(self._interval_s)
        parcel.described = digest != active.described
        return final

    def _finish(self, active: _Active, metadata: Mapping[str, Any], version: int) -> None:
        """Write everything, read it back, say so, and end the streams. Nothing is written to an ended stream.

        A run that changes after its end (rows that came late and were denoised again) is the exception: readers must
        get the newest maps, and no subscriber is left who could be disturbed.
        """
        publication, again = active.publication, active.final_version is not None
        if active.final_version != version or not publication.reads_back():
            if again:
                log.warning("final_maps_changed", run=active.parcel.uid, version=version)
            publication.write(0, active.buffer.info.shape[0])
            if not publication.reads_back():
                raise TiledBusyError(f"{publication.path} reads back differently; it is written again")
            self._api.replace_metadata(publication.path, {**metadata, "published": {"version": version, "final": True}})
            active.final_version = version
        failpoint("publish.before_close")
        publication.close_streams()

    def _say(self, active: _Active, state: str, reason: str) -> None:
        """Keep state and reason in the run's hash, where the API and the dashboard show them."""
        if active.said == (state, reason):
            return
        runs.write_status(self._redis, active.parcel.uid, publish_state=state, publish_reason=reason)
        emit(self._redis, "run", active.parcel.uid, publish_state=state, publish_reason=reason)
        active.said = state, reason


def _digest(metadata: Mapping[str, Any]) -> bytes:
    return orjson.dumps(metadata, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS)
