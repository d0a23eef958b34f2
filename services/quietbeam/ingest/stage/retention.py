"""Which runs stay on disk: pins, deletions that people ask for, and the age and size at which unpinned runs go."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.buffer.run_buffer import run_path
from quietbeam.core.errors import DamagedRunError, NotMeasuredError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import actions, fence, keys, runs
from quietbeam.core.wire.actions import Action, ActionKind
from quietbeam.core.wire.bus import Connection, emit

from .size_limit import SizeLimit

log = structlog.get_logger()

EXPIRY_CHECK_EVERY_S = 60.0
EXPIRED_AT_ONCE = 20
_LEASE_MS = 120_000
_PAGE = 1000
_OWNER = "ingest:delete"


class Retention:
    """Pins and deletes runs.

    Parameters
    ----------
    settings, connection
        As of the stage.
    forget
        Drops a run from the memory of the stage; False while something of it is in hand.
    """

    def __init__(self, settings: Settings, connection: Connection, forget: Callable[[str], bool]) -> None:
        self._settings, self._redis, self._forget = settings, connection, forget
        self._inbox = actions.Inbox(connection, "ingest", "ingest")
        self._open: dict[str, Action] = {}
        self._size_limit = SizeLimit(settings, connection)
        self._next_expiry_check = 0.0
        for leftover in settings.runs_dir.glob(".deleted-*"):  # a kill came between
            shutil.rmtree(leftover, ignore_errors=True)

    def restart(self) -> None:
        """Read the actions again, after Redis was away."""
        self._inbox.restart()

    def poll(self) -> bool:
        """Do the actions that are due; True when one was done."""
        for action in self._inbox.read():
            self._open[action.id] = action
        worked = False
        for action in list(self._open.values()):
            if self._run_action(action):
                del self._open[action.id]
                self._inbox.close(action)
                worked = True
        self._delete_due()
        return worked

    def _delete_due(self) -> None:
        """Ask for the deletion of runs that are too old, or for which there is no room."""
        settings, is_due = self._settings.ingest, time.monotonic() >= self._next_expiry_check
        if is_due:
            self._next_expiry_check = time.monotonic() + EXPIRY_CHECK_EVERY_S
            if settings.keep_runs is not None:
                self._delete_expired(settings.keep_runs.total_seconds())
        if settings.keep_bytes is not None:
            for uid in self._size_limit.poll(begin=is_due):
                log.info("run_expires", run=uid, setting="ingest.keep_bytes")
                actions.submit(self._redis, ActionKind.DELETE, uid, f"ingest.keep_bytes ({settings.keep_bytes})")

    def _run_action(self, action: Action) -> bool:
        """Do one action; False when it must wait."""
        if action.kind is ActionKind.DELETE:
            return self._delete(action)
        pinned = action.kind is ActionKind.PIN
        try:
            RunBuffer.open(self._settings.runs_dir, action.run, writable=True).update_state({"pinned": pinned})
        except (NotMeasuredError, DamagedRunError) as error:
            actions.set_state(self._redis, action, "failed", str(error))
            return True
        runs.write_status(self._redis, action.run, pinned=int(pinned))
        emit(self._redis, "run", action.run, pinned=pinned)
        actions.set_state(self._redis, action, "done")
        return True

    def _delete(self, action: Action) -> bool:
        uid = action.run
        status = runs.read_status(self._redis, uid)
        if status is not None and not (status.state.ended or status.state is RunState.STALE):
            actions.set_state(self._redis, action, "failed", "the run is measured again; delete it when it has ended")
            return True
        if status is not None and status.pinned:
            actions.set_state(self._redis, action, "failed", "the run was pinned meanwhile; unpin it first")
            return True
        # Whoever holds the lease may touch the maps: while a worker has it, or ingest something in hand, this waits.
        if fence.acquire(self._redis, uid, _OWNER, _LEASE_MS) is None or not self._forget(uid):
            return False
        self._remove_folder(uid)
        with self._redis.pipeline() as pipe:
            pipe.zrem(keys.RUNS, uid)
            pipe.delete(keys.run(uid), keys.context(uid))
            pipe.execute()
        for stream in (keys.EVENTS, keys.QUARANTINE):
            self._remove_entries(stream, uid)
        fence.forget(self._redis, uid)
        emit(self._redis, "run", uid, state="deleted", reason=f"deleted by {action.by}")
        actions.set_state(self._redis, action, "running", "deleted here; its node in Tiled follows")
        actions.forward(self._redis, action, "publish")
        return True

    def _remove_folder(self, uid: str) -> None:
        """Take the folder out of sight in one step, then remove it; other data of the run is not quietbeam's."""
        path = run_path(self._settings.runs_dir, uid)
        hidden = path.with_name(f".deleted-{uid}")
        if path.exists():
            path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def _remove_entries(self, stream: str, uid: str) -> None:
        wanted, start = uid.encode(), "-"
        while True:
            page: Any = self._redis.xrange(stream, min=start, count=_PAGE)
            ids = [entry_id for entry_id, entry in page if entry.get(b"run") == wanted]
            if ids:
                self._redis.xdel(stream, *ids)
            if len(page) < _PAGE:
                return
            start = f"({page[-1][0].decode()}"

    def _delete_expired(self, keep_s: float) -> None:
        """Ask for the deletion of the oldest runs whose time is over."""
        limit, requested = time.time() - keep_s, 0
        for uid in runs.list_runs(self._redis, newest_first=False):
            status = runs.read_status(self._redis, uid)
            if status is None or status.pinned or not (status.state.ended or status.state is RunState.STALE):
                continue
            started = status.info.time_start if status.info is not None else 0.0
            if max(started, status.time_stop or 0.0, status.last_document_at or 0.0) >= limit:
                continue
            log.info("run_expires", run=uid, setting="ingest.keep_runs")
            actions.submit(self._redis, ActionKind.DELETE, uid, f"ingest.keep_runs ({self._settings.ingest.keep_runs})")
            requested += 1
            if requested == EXPIRED_AT_ONCE:
                return
