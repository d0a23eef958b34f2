"""What is found at a start: runs on disk that Redis does not show, and runs that have not ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from quietbeam.buffer import RunBuffer, list_buffers
from quietbeam.buffer.damage import REMEDY
from quietbeam.buffer.examination import damages
from quietbeam.buffer.repair import is_unsynced, mend_unsynced, take_note
from quietbeam.core.errors import DamagedRunError, NotMeasuredError
from quietbeam.core.model.types import RunState
from quietbeam.core.wire import bus, keys, runs
from quietbeam.core.wire.bus import Connection

log = structlog.get_logger()


def show_buffers(connection: Connection, runs_dir: Path, is_open: Callable[[str], bool]) -> None:
    """Show in Redis the runs that only the disk has; a run that is open shows itself.

    Rows that a power failure left in parts are unmarked first. A damaged run is named and costs no other run anything.
    """
    for uid in list_buffers(runs_dir):
        if is_open(uid):
            continue
        fields: Any = connection.hmget(keys.run(uid), "state", "damage")
        is_shown, was_damaged = (value is not None for value in fields)
        try:
            if is_unsynced(runs_dir, uid):
                _unmark_lost_rows(runs_dir, uid)
            if was_damaged:
                _refuse_damage(runs_dir, uid)
            if not is_shown:
                show_buffer(connection, RunBuffer.open(runs_dir, uid))
            repaired = take_note(runs_dir, uid)
            if was_damaged or repaired is not None:
                show_repaired(connection, runs_dir, uid, maps_lost=repaired is not None and repaired.maps_lost)
        except NotMeasuredError as error:
            log.warning("buffer_unreadable", run=uid, error=str(error))
        except DamagedRunError as error:
            state = {} if is_shown else {"state": RunState.UNUSABLE.value, "reason": str(error)}
            if not is_shown:
                runs.register_run(connection, uid, (runs_dir / uid).stat().st_mtime)
            runs.note_damage(connection, uid, error, **state)


def show_repaired(connection: Connection, runs_dir: Path, uid: str, *, maps_lost: bool) -> None:
    """Let the other stages go on with a run that was damaged."""
    buffer = RunBuffer.open(runs_dir, uid)
    show_buffer(connection, buffer)
    runs.clear_damage(connection, uid, maps=maps_lost)
    rows, version = buffer.rows_written(), int(buffer.map_attributes().get("version") or 0)
    if rows:
        connection.xadd(keys.ROWS, {"run": uid, "row": rows[-1]})
    if version and not maps_lost:
        connection.xadd(keys.MAPS, {"run": uid, "first_row": 0, "stop_row": buffer.info.shape[0], "version": version})


def _refuse_damage(runs_dir: Path, uid: str) -> None:
    if found := next(damages(runs_dir, uid), ""):
        raise DamagedRunError(found, remedy=REMEDY, uid=uid)


def _unmark_lost_rows(runs_dir: Path, uid: str) -> None:
    if lost := mend_unsynced(runs_dir, uid):
        log.warning("rows_lost_with_power", run=uid, rows=len(lost), first=lost[0], remedy="their documents come again")


def show_buffer(connection: Connection, buffer: RunBuffer) -> None:
    """Write the state of a run in Redis from what its buffer says."""
    uid, stored, (rows, pixels) = buffer.info.uid, buffer.state(), buffer.progress()
    state, reason = RunState(stored.get("state", "stale")), str(stored.get("reason", ""))
    if not state.ended:
        state, reason = RunState.STALE, "Redis lost this run while it was running; its rows on disk are safe"
    runs.register_run(connection, uid, buffer.info.time_start)
    runs.write_status(
        connection,
        uid,
        info=buffer.info,
        state=state.value,
        reason=reason,
        warnings=stored.get("warnings", []),
        pinned=int(bool(stored.get("pinned"))),
        rows_measured=rows,
        pixels_measured=pixels,
        **(_final_maps(buffer) if state.ended else {}),
    )
    status = runs.read_status(connection, uid)
    if status is not None and status.evidence is not None and status.evidence.final and not status.evidence.refined:
        connection.zadd(keys.REFINE, {uid: time.time()})
    bus.emit(connection, "run", uid, state=state.value, reason=reason)
    log.info("run_rebuilt", run=uid, state=state.value)


def _final_maps(buffer: RunBuffer) -> dict[str, Any]:
    """Return the fields of final maps, so that nobody makes them again; the worker finds maps that cannot be read."""
    try:
        maps, evidence = buffer.map_attributes(), buffer.evidence()
    except DamagedRunError:
        return {}
    if not maps.get("final"):
        return {}
    failure = str(maps.get("failure") or "")
    return {
        "denoise_state": "failed" if failure else "final",
        **({"denoise_reason": failure, "denoise_failure": failure} if failure else {}),
        "denoise_rows": int(maps.get("rows") or 0),
        "maps_version": int(maps.get("version") or 0),
        "evidence": evidence,
    }


def unended_runs(connection: Connection, limit: int) -> Iterator[tuple[str, RunState]]:
    """Yield the newest runs that Redis shows as running, paused or stale; of a map, the run that holds it."""
    for uid in runs.list_runs(connection, limit=limit):
        status = runs.read_status(connection, uid)
        if status is None or status.state not in (RunState.RUNNING, RunState.PAUSED, RunState.STALE):
            continue
        yield (status.info.stack[0] if status.info is not None else "") or uid, status.state
