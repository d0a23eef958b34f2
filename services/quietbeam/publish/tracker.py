"""Runs that Tiled does not have in their final form, and what changed of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import DamagedRunError, InputError, NotMeasuredError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection, entries

from .outbox import Parcel, next_due
from .provenance import container_metadata, metadata_digest
from .publication import Publication

log = structlog.get_logger()

_SCAN_S = 1.0
_SCAN_NEWEST = 50


@dataclass(slots=True)
class ActiveRun:
    """A run that Tiled does not have in its final form.

    Attributes
    ----------
    described
        Digest of the metadata that Tiled has; ``described_at`` the monotonic time at which it got them.
    seen_version
        Version of the maps at the last scan.
    reported
        State and reason in the run's hash.
    final_version
        Version of the final maps that Tiled has, once they were read back.
    """

    buffer: RunBuffer
    publication: Publication
    parcel: Parcel
    described: bytes = b""
    described_at: float = -1e9
    seen_version: int = -1
    reported: tuple[str, str] = ("", "")
    final_version: int | None = None


def maps_identity(attributes: Mapping[str, Any]) -> tuple[int, int]:
    """Return version and token of the maps with these attributes; 0 where there are none."""
    return int(attributes.get("version") or 0), int(attributes.get("token") or 0)


class RunTracker:
    """Knows the active runs: by wake-ups, and by a scan of all state hashes that finds what no wake-up announced.

    Parameters
    ----------
    open_publication
        Returns what writes a run to Tiled.

    Attributes
    ----------
    active
        Active runs by uid.
    """

    def __init__(
        self, settings: Settings, connection: Connection, open_publication: Callable[[RunBuffer], Publication]
    ) -> None:
        self._settings, self._redis, self._open_publication = settings, connection, open_publication
        self.active: dict[str, ActiveRun] = {}
        self._finished: set[str] = set()
        self._cursor: bytes | None = None
        self._next_scan = 0.0
        self._scan_all = True

    def restart(self) -> None:
        """Start again after an outage of Redis: wake-ups and state hashes may be lost."""
        self._finished.clear()
        self._cursor = None
        self._scan_all, self._next_scan = True, 0.0
        for active in self.active.values():
            active.parcel.whole = True
            active.reported = ("", "")

    def next_parcel(self) -> Parcel | None:
        """Return the parcel that has waited longest, or None when none is due."""
        return next_due([active.parcel for active in self.active.values()])

    def finish(self, uid: str) -> None:
        """Stop tracking a run that Tiled has in its final form, or that was deleted."""
        self.active.pop(uid, None)
        self._finished.add(uid)

    def drop(self, uid: str, reason: str) -> None:
        """Stop tracking a run that cannot be published."""
        log.warning("run_dropped", run=uid, reason=reason)
        self.finish(uid)

    def drop_damaged(self, uid: str, error: Exception) -> None:
        """Stop tracking a run whose files cannot be read; what Tiled has of it stays, and a repair wakes it up."""
        runs.note_damage(self._redis, uid, error, publish_state="failed", publish_reason=str(error))
        self.drop(uid, str(error))

    def read_wake_ups(self, block_ms: int | None) -> bool:
        """Read wake-ups, waiting `block_ms` for the first (None: not at all); True when there were some."""
        if self._cursor is None:
            last: Any = self._redis.xrevrange(keys.MAPS, count=1)
            self._cursor = last[0][0] if last else b"0-0"
        reply: Any = self._redis.xread({keys.MAPS: self._cursor}, count=1024, block=block_ms)
        found = False
        for _, entry in entries(reply):
            found, self._cursor = True, entry.id
            try:
                uid = entry.fields[b"run"].decode()
                first, stop, version = (int(entry.fields[name]) for name in (b"first_row", b"stop_row", b"version"))
                token = int(entry.fields.get(b"token", 0))
            except (KeyError, ValueError):
                log.warning("map_entry_refused", entry=str(entry.id))
                continue
            self._finished.discard(uid)
            if (active := self.active.get(uid) or self._track_run(uid)) is not None:
                active.parcel.changed(first, stop, version, token)
        return found

    def scan(self) -> None:
        """Find new runs, changed states and missed wake-ups, at most once in `_SCAN_S`."""
        if time.monotonic() < self._next_scan:
            return
        self._next_scan = time.monotonic() + _SCAN_S
        newest = runs.list_runs(self._redis, limit=None if self._scan_all else _SCAN_NEWEST)
        self._scan_all = False
        for uid in newest:
            if uid not in self.active and uid not in self._finished:
                self._track_run(uid)
        for uid, active in list(self.active.items()):
            self._compare(uid, active)

    def _compare(self, uid: str, active: ActiveRun) -> None:
        """Mark what of a run differs from what Tiled has."""
        status = runs.read_status(self._redis, uid)
        if status is None:
            return
        try:
            attributes = active.buffer.map_attributes()
        except NotMeasuredError:
            self.drop(uid, "its buffer was deleted")
            return
        except DamagedRunError as error:
            self.drop_damaged(uid, error)
            return
        version, _ = maps_identity(attributes)
        if version > active.parcel.version and version == active.seen_version:
            log.info("wake_up_missed", run=uid, version=version)
            active.parcel.whole, active.parcel.version = True, version
        active.seen_version = version
        metadata = container_metadata(self._settings, active.buffer.info, status, attributes)
        if metadata_digest(metadata) != active.described:
            active.parcel.described = True

    def _track_run(self, uid: str) -> ActiveRun | None:
        """Add a run; None where it has no maps or Tiled has its final form."""
        status = runs.read_status(self._redis, uid)
        if status is None or status.damage or status.state is RunState.UNUSABLE:
            return None
        try:
            buffer = RunBuffer.open(self._settings.runs_dir, uid)
            version, token = maps_identity(buffer.map_attributes())
        except NotMeasuredError:
            return None
        except (DamagedRunError, InputError) as error:
            self.drop_damaged(uid, error)
            return None
        if status.publish_state == "final" and status.publish_version >= version:
            self._finished.add(uid)
            return None
        parcel = Parcel(uid=uid, version=version, token=token)
        active = ActiveRun(buffer=buffer, publication=self._open_publication(buffer), parcel=parcel)
        self.active[uid] = active
        return active
