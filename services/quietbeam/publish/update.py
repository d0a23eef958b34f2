"""One update of a run in Tiled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog

from quietbeam.core.process.failpoint import failpoint
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection

from .provenance import container_metadata, metadata_digest
from .tiled_api import TiledApi, TiledBusyError
from .tracker import ActiveRun, maps_identity

log = structlog.get_logger()

_DESCRIBE_S = 2.0
"""Metadata are sent at most once in this time, but for the final ones."""


class RunUpdater:
    """Brings Tiled up to date with one run at a time."""

    def __init__(self, settings: Settings, connection: Connection, api: TiledApi) -> None:
        self._settings, self._redis, self._api = settings, connection, api

    def update(self, active: ActiveRun) -> bool:
        """Send what changed of a run; True when this was its last update."""
        parcel, publication = active.parcel, active.publication
        status = runs.read_status(self._redis, parcel.uid) or runs.RunStatus(uid=parcel.uid)
        attributes = active.buffer.map_attributes()
        metadata = container_metadata(self._settings, active.buffer.info, status, attributes)
        # The version goes first: rows that change while they are read are announced by a later version.
        version, _ = maps_identity(attributes)
        final = status.state.ended and _is_final(attributes, status)
        # A final answer is `published` only once the arrays were read back.
        found = publication.ensure({**metadata, "published": {"version": 0, "final": False}})
        if found is not None and found.get("published", {}).get("final"):
            active.final_version = int(found["published"]["version"])
        if final:
            self._finish(active, metadata, attributes)
        elif parcel.whole and (version or found is not None):
            publication.write(0, active.buffer.info.shape[0])
        elif parcel.rows is not None:
            publication.write(*parcel.rows)
        failpoint("publish.after_write")
        sent = version if parcel.whole or final else parcel.version
        if parcel.whole or parcel.rows is not None or final:
            metrics.count(self._redis, "quietbeam_tiled_updates_total")
        self._redis.hset(keys.run(parcel.uid), mapping={"publish_version": sent, "tiled_path": publication.path})
        digest = metadata_digest(metadata)
        early = time.monotonic() < active.described_at + _DESCRIBE_S
        if not final and digest != active.described and not early:
            self._api.replace_metadata(publication.path, {**metadata, "published": {"version": sent, "final": False}})
            active.described, active.described_at = digest, time.monotonic()
        parcel.version = max(parcel.version, sent)
        parcel.sent(self._settings.tiled.interval.total_seconds())
        parcel.described = digest != active.described
        return final

    def _finish(self, active: ActiveRun, metadata: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        """Write everything, read it back, mark it as final, and end the streams. Nothing goes to an ended stream.

        A run that changes after its end (rows that came late and were denoised again) is the exception: readers must
        get the newest maps, and no subscriber is left who could be disturbed.
        """
        publication, again = active.publication, active.final_version is not None
        version, _ = maps_identity(attributes)
        if active.final_version != version or not publication.reads_back():
            if again:
                log.info("final_maps_changed", run=active.parcel.uid, version=version)
            publication.write(0, active.buffer.info.shape[0])
            if not publication.reads_back():
                raise TiledBusyError(f"{publication.path} reads back differently; it is written again")
            if maps_identity(active.buffer.map_attributes()) != maps_identity(attributes):
                raise TiledBusyError(f"the maps of {publication.path} changed meanwhile; they are written again")
            self._api.replace_metadata(publication.path, {**metadata, "published": {"version": version, "final": True}})
            active.final_version = version
        failpoint("publish.before_close")
        publication.close_streams()


def _is_final(attributes: Mapping[str, Any], status: runs.RunStatus) -> bool:
    """Return True when the maps on disk are final and the worker has said so; after a loss of Redis the disk decides.

    Maps that are final on disk alone are those of a worker that died, or lost its lease, before it could say so.
    """
    if status.denoise_state == "failed":
        return True
    return bool(attributes.get("final")) and status.maps_version in (0, maps_identity(attributes)[0])
