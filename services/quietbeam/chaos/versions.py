"""Watches all along that the version of a run's maps only grows, and that no number is used twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import redis

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import QuietbeamError
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import entries

from .site import Site, quick_client

_POLL_S = 0.2
_WATCHED = 9
"""Newest runs that are looked at all the time."""


class Versions:
    """What was seen of the versions of runs, and what of it must not be.

    Attributes
    ----------
    violations
        Sentences.
    seen
        Numbers that were seen, all runs together.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.seen = 0
        self._last: dict[tuple[str, str], int] = {}
        self._announced: dict[tuple[str, int], Mapping[bytes, bytes]] = {}
        self._tokens: dict[tuple[str, int], int] = {}

    def note(self, uid: str, where: str, version: int) -> None:
        """Note a version that somebody reads at a place."""
        before = self._last.get((uid, where), 0)
        if version < before:
            self.violations.append(f"run {uid}: the version in {where} went from {before} back to {version}")
        if version != before:
            self.seen += 1
        self._last[uid, where] = version

    def note_files(self, uid: str, attributes: Mapping[str, Any]) -> None:
        """Note the version on disk and the lease that wrote it."""
        version, token = int(attributes.get("version") or 0), int(attributes.get("token") or 0)
        if self._tokens.setdefault((uid, version), token) > token:
            self.violations.append(f"run {uid}: version {version} on disk came back under the older lease {token}")
        self.note(uid, "zarr", version)

    def note_announcement(self, fields: Mapping[bytes, bytes]) -> None:
        """Note an entry of the stream that announces versions: each number comes once."""
        uid, version = fields[b"run"].decode(), int(fields[b"version"])
        before = self._announced.setdefault((uid, version), fields)
        if before is not fields and before.get(b"token") != fields.get(b"token"):
            self.violations.append(f"run {uid}: two leases announced version {version}")


class VersionWatch:
    """A thread that notes the versions of the newest runs.

    Parameters
    ----------
    uids
        Returns the runs in the order in which they began.
    """

    def __init__(self, site: Site, uids: Callable[[], Iterable[str]]) -> None:
        self._site, self._uids = site, uids
        self.versions = Versions()
        self._redis = quick_client(site.settings.redis_url)
        self._cursor: bytes = b"0-0"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        self._thread.join(30)
        self._redis.close()

    def _run(self) -> None:
        while not self._ended.wait(_POLL_S):
            for uid in list(self._uids())[-_WATCHED:]:
                with suppress(QuietbeamError, OSError):
                    attributes = RunBuffer.open(self._site.settings.runs_dir, uid).map_attributes()
                    self.versions.note_files(uid, attributes)
            with suppress(redis.RedisError, OSError):
                self._read_redis()

    def _read_redis(self) -> None:
        for uid in list(self._uids())[-_WATCHED:]:
            status = runs.read_status(self._redis, uid)
            if status is not None:
                self.versions.note(uid, "Redis", status.maps_version)
                self.versions.note(uid, "Tiled, as Redis says", status.publish_version)
        while found := list(entries(self._redis.xread({keys.MAPS: self._cursor}, count=500))):
            for _, entry in found:
                self._cursor = entry.id
                self.versions.note_announcement(entry.fields)
