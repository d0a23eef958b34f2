"""The denoise stage: leases runs, denoises committed rows, fine-tunes when no row waits, finishes with a last pass.

The stream ``qb:rows`` only wakes the worker up; what is measured is read from zarr. A worker that dies loses nothing:
its lease runs out (or the restarted worker, which has the same name, takes it back at once) and the next one reads the
run from zarr.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import redis
import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.core.process.stage import heartbeat
from quietbeam.core.process.stop import StopRequest
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection, emit, trim_older

from ..estimators.device import pick_device
from .action_requests import ActionRequests
from .job import DenoiseJob
from .leases import RunLeases
from .row_wakeups import RowWakeUps
from .stack_weights import StackWeights

log = structlog.get_logger()

_TRIM_EVERY_S = 60.0
_POLL_EVERY_S = 0.05
_FULL_S = 1.0
_UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError)


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
        pick_device(settings.denoise.device)  # refused now, not run by run
        self._stop = stop or StopRequest()
        self._settings = settings
        self._redis = connection
        self._jobs: dict[str, DenoiseJob] = {}
        self._stacks = StackWeights()
        self._leases = RunLeases(connection, owner, settings.denoise.lease)
        self._wakeups = RowWakeUps(connection)
        self._requests = ActionRequests(connection, owner, settings.denoise.weights, settings.weights_dir)
        self._next_poll = self._next_renewal = self._next_trim = 0.0

    def step(self) -> bool:
        """Process new rows, then spend at most one burst on learning. False when there was nothing to do."""
        try:
            if not self._wakeups.started:
                self._wakeups.start()
                self._adopt_orphans()
            for uid in self._requests.poll():
                self._jobs.pop(uid, None)  # it begins anew, also when it was about to finish
                self._start_job(uid)
            return self._process()
        except redis.OutOfMemoryError as error:
            log.warning("redis_full", error=str(error), remedy="raise its maxmemory; the maps are kept and shown then")
            self.recover()
            self._stop.wait(_FULL_S)
            return False

    def recover(self) -> None:
        """Check every run again after an outage: leases and wake-ups may be gone."""
        for job in self._jobs.values():
            job.add_all_pending()
        self._requests.restart()
        self._next_renewal = 0.0
        self._wakeups.reset()

    def close(self) -> None:
        """Give the leases back so that another worker can go on at once."""
        for job in list(self._jobs.values()):
            self._release(job)

    def _process(self) -> bool:
        busy = any(job.has_work for job in self._jobs.values())
        worked = self._serve_rows(block_ms=0 if busy else 250)
        for job in list(self._jobs.values()):
            if not self._wakeups.waiting():
                worked |= self._guard(job, partial(job.learn, self._interrupted, self._serve_rows))
            if job.finished:
                self._requests.settle(job.info.uid, job.raw_only_reason)
                self._release(job)
        if time.monotonic() >= self._next_trim:
            self._next_trim = time.monotonic() + _TRIM_EVERY_S
            for stream in (keys.ROWS, keys.MAPS, keys.EVENTS):
                trim_older(self._redis, stream)
            self._adopt_orphans()
        return worked

    def _serve_rows(self, block_ms: int = 0) -> bool:
        """Process the rows that wait; False when there are none."""
        rows = self._wakeups.read(block_ms)
        self._renew_leases()
        for uid, numbers in rows.items():
            job = self._jobs.get(uid) or self._start_job(uid)
            if job is not None:
                job.add_pending(numbers)
        worked = False
        for job in list(self._jobs.values()):
            worked |= self._guard(job, job.process_rows)
        return worked

    def _adopt_orphans(self) -> None:
        """Start jobs for runs that have unfinished maps and no worker."""
        for uid in runs.list_runs(self._redis, limit=200):
            status = runs.read_status(self._redis, uid)
            if status is None or uid in self._jobs or status.state == "unusable":
                continue
            if status.denoise_state not in ("final", "failed"):
                self._start_job(uid)

    def _interrupted(self) -> bool:
        """Return True when learning must stop; keeps the leases alive in a long burst.

        Cheap enough to be called after every optimizer step.
        """
        if self._stop.is_set():
            return True
        now = time.monotonic()
        if now < self._next_poll:
            return False
        self._next_poll = now + _POLL_EVERY_S
        try:
            self._renew_leases()
            return self._wakeups.waiting()
        except _UNAVAILABLE:
            return True

    def _start_job(self, uid: str) -> DenoiseJob | None:
        """Lease a run and start its job; None when another worker has it, or nothing is buffered."""
        if not self._leases.acquire(uid):
            return None
        try:
            buffer = RunBuffer.open(self._settings.runs_dir, uid, writable=True)
        except (NotMeasuredError, InputError):
            self._redis.delete(keys.lease(uid))
            return None
        weights, budget_s = self._requests.options(uid)
        start = None if weights else self._stacks.before(buffer.info, self._jobs.values())
        job = DenoiseJob(
            buffer, self._redis, self._settings.denoise, weights=weights, final_budget_s=budget_s, start=start
        )
        self._jobs[uid] = job
        log.info("run_leased", run=uid, lines=len(job.info.lines), shape=job.info.shape)
        return job

    def _renew_leases(self) -> None:
        now = time.monotonic()
        if now < self._next_renewal:
            return
        self._next_renewal = now + self._settings.denoise.lease.total_seconds() / 4
        heartbeat(self._redis, self.name, detail=f"{len(self._jobs)} runs leased")  # a step may take longer than a beat
        for uid, job in list(self._jobs.items()):
            if not self._leases.renew(uid):
                log.warning("lease_lost", run=uid)
                job.lease_lost = True
                del self._jobs[uid]

    def _release(self, job: DenoiseJob) -> None:
        self._stacks.store(job)
        self._jobs.pop(job.info.uid, None)
        self._leases.release(job.info.uid)

    def _guard(self, job: DenoiseJob, work: Callable[[], bool]) -> bool:
        """Do `work`; an error of the denoiser costs the run its denoised map, never its raw map or other runs."""
        if job.lease_lost:
            return False
        try:
            return work()
        except _UNAVAILABLE:
            raise
        except Exception as error:
            log.exception("denoiser_failed", run=job.info.uid)
            emit(self._redis, "warning", job.info.uid, name="denoiser", reason=str(error))
            job.fall_back(f"{type(error).__name__}: {error}")
            return True
