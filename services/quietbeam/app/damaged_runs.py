"""The runs on disk: which are damaged, and what a repair made of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import redis

from quietbeam.buffer import list_buffers
from quietbeam.buffer.examination import damages
from quietbeam.buffer.repair import Repair, leave_note, mend
from quietbeam.core.errors import DamagedRunError
from quietbeam.core.model.types import RunState
from quietbeam.core.process.lock import holder
from quietbeam.core.settings import Settings
from quietbeam.core.wire import fence, keys, runs
from quietbeam.core.wire.bus import Connection, connect

from .finding import Finding

_LONGEST_S = 30.0
"""Time after which older runs are not looked at, unless damage is to be repaired."""
_LEASE_MS = 600_000
_OWNER = "doctor"
_OF_FAILURE = "end its cause; then restart the worker, or ask for `denoise again`, if the next try is not to be awaited"


def examine_runs(settings: Settings, *, repair: bool) -> Iterator[Finding]:
    """Yield a finding for every damaged run, and one for all others."""
    uids = list_buffers(settings.runs_dir)
    uids.sort(key=lambda uid: (settings.runs_dir / uid).stat().st_mtime, reverse=True)
    connection = _redis(settings)
    started, bad, seen = time.monotonic(), 0, 0
    for uid in uids:
        if not repair and time.monotonic() - started > _LONGEST_S:
            break
        seen += 1
        flag, failure = _said(connection, uid)
        if failure:
            yield Finding(check="run", verdict="warning", found=failure, remedy=_OF_FAILURE)
        found = next(damages(settings.runs_dir, uid), "")
        if not (found or flag):
            continue
        bad += 1
        if repair:
            yield _repaired(settings, connection, uid)
        else:
            yield Finding(
                check="run",
                verdict="failure",
                found=found or flag,
                remedy="`quietbeam doctor --repair` mends what its counts allow, or restore it from a backup",
            )
    unseen = f"; {len(uids) - seen} older ones were not looked at" if seen < len(uids) else ""
    yield Finding(check="runs", verdict="ok", found=f"{seen - bad} of {seen} runs can be read{unseen}")


def _said(connection: Connection | None, uid: str) -> tuple[str, str]:
    """Return what Redis has of a run: its damage, and why the last try of the denoiser failed."""
    if connection is None:
        return "", ""
    fields: Any = connection.hmget(keys.run(uid), "damage", "denoise_failure")
    damage, failure = ((value or b"").decode(errors="replace") for value in fields)
    return damage, failure


def _redis(settings: Settings) -> Connection | None:
    """Return a connection, or None while Redis does not answer."""
    connection = connect(settings.redis_url)
    try:
        connection.ping()
    except redis.RedisError:
        return None
    return connection


def _repaired(settings: Settings, connection: Connection | None, uid: str) -> Finding:
    status = runs.read_status(connection, uid) if connection else None
    going = status is not None and not (status.state.ended or status.state is RunState.STALE)
    if holder(settings.data_dir / "ingest.lock") and status is not None and status.info is not None and going:
        return Finding(
            check="run", verdict="failure", found=f"run {uid} is measured now", remedy="repair it when it has ended"
        )
    lease = fence.acquire(connection, uid, _OWNER, _LEASE_MS) if connection else None
    if connection and lease is None:
        return Finding(
            check="run", verdict="failure", found=f"a worker has run {uid}", remedy="repair it when it is final"
        )
    try:
        repair = _mend(settings, uid, status)
    except DamagedRunError as error:
        return Finding(check="run", verdict="failure", found=error.message, remedy=error.remedy)
    finally:
        if connection and lease:
            fence.release(connection, lease)
    if connection:
        from quietbeam.ingest.stage.recovery import show_repaired

        show_repaired(connection, settings.runs_dir, uid, maps_lost=repair.maps_lost)
    else:
        leave_note(settings.runs_dir, uid, repair)
    done = "; ".join(repair.sentences) or "nothing of it is damaged any more"
    return Finding(check="run", verdict="warning" if repair.lost_rows else "ok", found=f"run {uid} is repaired: {done}")


def _mend(settings: Settings, uid: str, status: runs.RunStatus | None) -> Repair:
    if status is None:
        return mend(settings.runs_dir, uid)
    return mend(settings.runs_dir, uid, info=status.info, state=status.state.value, version=status.maps_version)
