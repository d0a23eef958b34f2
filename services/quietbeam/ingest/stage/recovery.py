"""What is found at a start: runs on disk that Redis does not show, and runs that have not ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from quietbeam.buffer import RunBuffer, list_buffers
from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.types import RunState
from quietbeam.core.wire import bus, keys, runs
from quietbeam.core.wire.bus import Connection

log = structlog.get_logger()


def show_buffers(connection: Connection, runs_dir: Path, is_open: Callable[[str], bool]) -> None:
    """Show in Redis the runs that only the disk has; a run that is open shows itself."""
    for uid in list_buffers(runs_dir):
        if is_open(uid) or connection.exists(keys.run(uid)):
            continue
        try:
            buffer = RunBuffer.open(runs_dir, uid)
            stored, measured = buffer.state(), buffer.measured()
        except (NotMeasuredError, KeyError, ValueError, TypeError) as error:
            log.warning("buffer_unreadable", run=uid, error=str(error))
            continue
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
            rows_measured=int(measured.all(axis=1).sum()),
            pixels_measured=int(measured.sum()),
        )
        bus.emit(connection, "run", uid, state=state.value, reason=reason)
        log.info("run_rebuilt", run=uid, state=state.value)


def unended_runs(connection: Connection, limit: int) -> Iterator[tuple[str, RunState]]:
    """Yield the newest runs that Redis shows as running, paused or stale; of a map, the run that holds it."""
    for uid in runs.list_runs(connection, limit=limit):
        status = runs.read_status(connection, uid)
        if status is None or status.state not in (RunState.RUNNING, RunState.PAUSED, RunState.STALE):
            continue
        yield (status.info.stack[0] if status.info is not None else "") or uid, status.state
