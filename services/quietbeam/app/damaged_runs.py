"""The runs on disk: which are damaged, what a repair made of them, and whether they keep their limit of size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import redis

from quietbeam.buffer.examination import damages, stored_runs
from quietbeam.buffer.repair import beyond_repair, can_be_described, leave_note, mend
from quietbeam.buffer.row_repair import Repair
from quietbeam.core.errors import DamagedRunError
from quietbeam.core.model.types import RunState
from quietbeam.core.process.lock import holder
from quietbeam.core.process.outage import disk_outage
from quietbeam.core.settings import Settings
from quietbeam.core.wire import fence, keys, runs
from quietbeam.core.wire.bus import Connection, connect

from .finding import Finding, Verdict

_LONGEST_S = 30.0
"""Time after which older runs are not looked at, unless damage is to be repaired."""
_LEASE_MS = 600_000
_OWNER = "doctor"
_OF_FAILURE = "end its cause; then restart the worker, or ask for `denoise again`, if the next try is not to be awaited"


def examine_runs(settings: Settings, *, repair: bool) -> Iterator[Finding]:
    """Yield a finding for every damaged run, and one for all others."""
    uids = stored_runs(settings.runs_dir)
    uids.sort(key=lambda uid: (settings.runs_dir / uid).stat().st_mtime, reverse=True)
    connection = _redis(settings)
    started, readable, seen = time.monotonic(), 0, 0
    for uid in uids:
        if not repair and time.monotonic() - started > _LONGEST_S:
            break
        seen += 1
        damage, failure = _said(connection, uid)
        if failure:
            yield Finding(check="run", verdict="warning", found=failure, remedy=_OF_FAILURE)
        found = _damage_on_disk(settings, uid) or damage
        if found and not repair:
            yield Finding(check="run", verdict="failure", found=found, remedy=_remedy(settings, connection, uid))
        elif found:
            finding = _repaired(settings, connection, uid)
            yield finding
            readable += finding.verdict != "failure"
        readable += not found
    unseen = f"; {len(uids) - seen} older ones were not looked at" if seen < len(uids) else ""
    yield Finding(check="runs", verdict="ok", found=f"{readable} of {seen} runs can be read{unseen}")


def size_of_runs(settings: Settings) -> Iterator[Finding]:
    """Yield what all runs take of the disk, where `ingest.keep_bytes` limits it."""
    from quietbeam.ingest.stage.size_limit import count_all, judge

    limit, connection = settings.ingest.keep_bytes, _redis(settings)
    if limit is None:
        return
    sizes = count_all(settings.runs_dir)
    found = f"{len(sizes)} runs take {sum(sizes.values()) / 2**30:.2f} of {limit / 2**30:.2f} GiB (ingest.keep_bytes)"
    sentence = judge(settings, connection, sizes).sentence if connection else ""
    if sentence:
        remedy = "wait for the worker, unpin or delete runs, or raise ingest.keep_bytes"
        yield Finding(check="size of runs", verdict="warning", found=f"{found}: {sentence}", remedy=remedy)
    else:
        yield Finding(check="size of runs", verdict="ok", found=found)


def _damage_on_disk(settings: Settings, uid: str) -> str:
    """Return what of a run cannot be read, also where its folder cannot be."""
    try:
        return next(damages(settings.runs_dir, uid), "")
    except OSError as error:
        return f"run {uid} cannot be read: {disk_outage(error) or error}"


def _remedy(settings: Settings, connection: Connection | None, uid: str) -> str:
    status = runs.read_status(connection, uid) if connection else None
    with suppress(OSError):
        if not can_be_described(settings.runs_dir, uid, status.info if status else None):
            return beyond_repair(settings.runs_dir / uid)
    return "`quietbeam doctor --repair` mends what its counts allow, or restore it from a backup"


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
        remedy = beyond_repair(settings.runs_dir / uid)
        return Finding(check="run", verdict="failure", found=error.message, remedy=remedy)
    except OSError as error:
        found = f"run {uid} could not be repaired: {disk_outage(error) or error}"
        return Finding(check="run", verdict="failure", found=found, remedy="mend that, and repair again")
    finally:
        if connection and lease:
            fence.release(connection, lease)
    if connection:
        from quietbeam.ingest.stage.recovery import show_repaired

        show_repaired(connection, settings.runs_dir, uid, maps_lost=repair.maps_lost)
    else:
        leave_note(settings.runs_dir, uid, repair)
    done = "; ".join(repair.sentences) or "nothing of it is damaged any more"
    verdict: Verdict = "warning" if repair.lost_rows or repair.is_incomplete else "ok"
    return Finding(check="run", verdict=verdict, found=f"run {uid} is repaired: {done}")


def _mend(settings: Settings, uid: str, status: runs.RunStatus | None) -> Repair:
    if status is None:
        return mend(settings.runs_dir, uid)
    return mend(settings.runs_dir, uid, info=status.info, state=status.state.value, version=status.maps_version)
