"""The denoise stage: leases runs, denoises committed rows, fine-tunes in between, finishes with a last pass.

The stream ``qb:rows`` only wakes the worker up; what is measured is read from zarr. A worker that dies loses nothing:
its lease runs out (or the restarted worker, which has the same name, takes it back at once) and the next one reads the
run from zarr.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.core.process.stage import heartbeat
from quietbeam.core.process.stop import StopRequest
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection, emit, entries, trim_older

from ..estimators.networks import pick_device
from .action_requests import Requests
from .job import LiveRun
from .stack_weights import StackWeights

log = structlog.get_logger()

_TRIM_EVERY_S = 60.0
_LOOK_EVERY_S = 0.05
_FULL_S = 1.0

_RENEW = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
return 0
"""


class DenoiseStage:
    """One worker on one device.

    Parameters
    ----------
    settings
        All settings.
    connection
        Redis client.
    owner
        Name in leases; a restarted worker keeps its name and so gets its runs back at once.
    stop
        Set when the process should end; ends a learning burst early.

    Raises
    ------
    InputError
        The device is unknown or not there.
    """

    name = "worker"

    def __init__(
        self, settings: Settings, connection: Connection, *, owner: str, stop: StopRequest | None = None
    ) -> None:
        pick_device(settings.denoise.device)  # refuse now, not run by run
        self._stop = stop or StopRequest()
        self._settings = settings
        self._redis = connection
        self._owner = owner
        self._runs: dict[str, LiveRun] = {}
        self._stacks = StackWeights()
        self._cursor: bytes | None = None
        self._next_look = self._next_renew = self._next_trim = 0.0
        self._renew = connection.register_script(_RENEW)
        self._requests = Requests(connection, owner, settings.denoise.weights, settings.weights_dir)

    # --- the loop -----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Take in new rows, show them, then spend at most one burst on learning. False when there was nothing to do."""
        try:
            if self._cursor is None:
                self._find_work()
            for uid in self._requests.turn():
                self._runs.pop(uid, None)  # it begins anew, also when it was about to finish
                self._take(uid)
            return self._turn()
        except redis.OutOfMemoryError as error:
            log.warning("redis_full", error=str(error), remedy="raise its maxmemory; the maps are kept and shown then")
            self.recover()
            self._stop.wait(_FULL_S)
            return False

    def _turn(self) -> bool:
        busy = any(run.wants_time for run in self._runs.values())
        worked = self._serve_rows(block_ms=0 if busy else 250)
        for run in list(self._runs.values()):
            if not self._rows_waiting():
                worked |= self._guard(run, partial(run.learn, self._interrupted, self._serve_rows))
            if run.finished:
                self._requests.settle(run.info.uid, run.trouble)
                self._release(run)
        if time.monotonic() >= self._next_trim:
            self._next_trim = time.monotonic() + _TRIM_EVERY_S
            trim_older(self._redis, keys.ROWS)
            trim_older(self._redis, keys.MAPS)
            trim_older(self._redis, keys.EVENTS)
            self._adopt_orphans()
        return worked

    def recover(self) -> None:
        """After an outage: leases and wake-ups may be gone, so look at every run again."""
        for run in self._runs.values():
            run.mark_all_dirty()
        self._requests.restart()
        self._next_renew = 0.0
        self._cursor = None

    def close(self) -> None:
        """Give the leases back so that another worker can go on at once."""
        for run in list(self._runs.values()):
            self._release(run)

    # --- rows ---------------------------------------------------------------------------------------------------

    def _serve_rows(self, block_ms: int = 0) -> bool:
        """Take in the rows that wait and show them; True when there were any."""
        rows = self._read_rows(block_ms)
        self._keep_leases()
        for uid, numbers in rows.items():
            run = self._runs.get(uid) or self._take(uid)
            if run is not None:
                run.mark_dirty(numbers)
        worked = False
        for run in list(self._runs.values()):
            worked |= self._guard(run, run.refresh)
        return worked

    def _find_work(self) -> None:
        last: Any = self._redis.xrevrange(keys.ROWS, count=1)
        self._cursor = last[0][0] if last else b"0-0"
        self._adopt_orphans()

    def _adopt_orphans(self) -> None:
        """Take runs that have unfinished maps and no worker."""
        for uid in runs.list_runs(self._redis, limit=200):
            status = runs.read_status(self._redis, uid)
            if status is None or uid in self._runs or status.state == "unusable":
                continue
            if status.denoise_state not in ("final", "failed"):
                self._take(uid)

    def _read_rows(self, block_ms: int) -> dict[str, set[int]]:
        """Return committed rows by run since the last call; empty sets never appear."""
        found: dict[str, set[int]] = {}
        reply: Any = self._redis.xread({keys.ROWS: self._cursor or b"0-0"}, count=4096, block=block_ms or None)
        for _, entry in entries(reply):
            self._cursor = entry.id
            try:
                uid, row = entry.fields[b"run"].decode(), int(entry.fields[b"row"])
            except (KeyError, ValueError):
                log.warning("row_entry_refused", entry=str(entry.id))
                continue
            found.setdefault(uid, set()).add(row)
        return found

    def _rows_waiting(self) -> bool:
        newest: Any = self._redis.xrevrange(keys.ROWS, count=1)
        return bool(newest) and newest[0][0] != self._cursor

    def _interrupted(self) -> bool:
        """Cheap enough to ask after every optimizer step; also keeps the leases alive in a long burst."""
        if self._stop.is_set():
            return True
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _LOOK_EVERY_S
        try:
            self._keep_leases()
            return self._rows_waiting()
        except (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError):
            return True

    # --- leases -------------------------------------------------------------------------------------------------

    def _take(self, uid: str) -> LiveRun | None:
        lease_ms = int(self._settings.denoise.lease.total_seconds() * 1000)
        holder: Any = self._redis.set(keys.lease(uid), self._owner, nx=True, px=lease_ms, get=True)
        if holder is not None and holder.decode() != self._owner:
            return None
        try:
            buffer = RunBuffer.open(self._settings.runs_dir, uid, writable=True)
        except (NotMeasuredError, InputError):
            self._redis.delete(keys.lease(uid))
            return None
        weights, budget_s = self._requests.options(uid)
        start = None if weights else self._stacks.before(buffer.info, self._runs.values())
        run = LiveRun(
            buffer, self._redis, self._settings.denoise, weights=weights, final_budget_s=budget_s, start=start
        )
        self._runs[uid] = run
        log.info("run_leased", run=uid, lines=len(run.info.lines), shape=run.info.shape)
        return run

    def _keep_leases(self) -> None:
        now = time.monotonic()
        if now < self._next_renew:
            return
        lease_s = self._settings.denoise.lease.total_seconds()
        self._next_renew = now + lease_s / 4
        heartbeat(self._redis, self.name, detail=f"{len(self._runs)} runs leased")  # a step may take longer than a beat
        for uid, run in list(self._runs.items()):
            if not self._renew(keys=[keys.lease(uid)], args=[self._owner, int(lease_s * 1000)]) and not self._redis.set(
                keys.lease(uid), self._owner, nx=True, px=int(lease_s * 1000)
            ):
                log.warning("lease_lost", run=uid)
                run.lost = True
                del self._runs[uid]

    def _release(self, run: LiveRun) -> None:
        self._stacks.keep(run)
        self._runs.pop(run.info.uid, None)
        if self._redis.get(keys.lease(run.info.uid)) == self._owner.encode():
            self._redis.delete(keys.lease(run.info.uid))

    def _guard(self, run: LiveRun, work: Callable[[], bool]) -> bool:
        """Run `work`; an error of the denoiser costs the run its denoised map, never its raw map or other runs."""
        if run.lost:
            return False
        try:
            return work()
        except (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError):
            raise
        except Exception as error:
            log.exception("denoiser_failed", run=run.info.uid)
            emit(self._redis, "warning", run.info.uid, name="denoiser", reason=str(error))
            run.fall_back(f"{type(error).__name__}: {error}")
            return True
