"""The denoise stage: leases runs, denoises committed rows, fine-tunes when no row waits, finishes with a last pass.

The stream ``qb:rows`` only wakes the worker up; what is measured is read from zarr. A worker that dies loses nothing:
its lease runs out (or the restarted worker, which has the same name, takes it back at once) and the next one reads the
run from zarr. A worker that was stopped and goes on writes nothing over its successor: see `core.wire.fence`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import redis
import structlog

from quietbeam.core.errors import LeaseLostError
from quietbeam.core.process.outage import redis_outage
from quietbeam.core.process.stage import heartbeat
from quietbeam.core.process.stop import StopRequest
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, metrics
from quietbeam.core.wire.bus import Connection, trim_older

from ..estimators.device import pick_device
from .action_requests import ActionRequests
from .job import DenoiseJob
from .leases import RunLeases
from .orphans import find_orphans
from .refinement import Refinement
from .row_pace import RowPace
from .row_wakeups import RowWakeUps
from .run_jobs import RunJobs

log = structlog.get_logger()

_TRIM_EVERY_S = 60.0
_POLL_EVERY_S = 0.05
_REQUESTS_S = 0.5
_ADOPTED_AT_ONCE = 8


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
        Set when the process should end; ends every computation within a fraction of a second.
    renewed
        Called whenever the leases are renewed.

    Raises
    ------
    InputError
        The device is unknown or not there.
    """

    name = "worker"

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        *,
        owner: str,
        stop: StopRequest | None = None,
        renewed: Callable[[], object] = lambda: None,
    ) -> None:
        pick_device(settings.denoise.device)  # refused now, not run by run
        self._stop = stop or StopRequest()
        self._settings = settings
        self._redis = connection
        self._leases = RunLeases(connection, owner, settings.denoise.lease)
        self._wakeups, self._pace = RowWakeUps(connection), RowPace()
        self._requests = ActionRequests(connection, owner, settings.denoise.weights, settings.weights_dir)
        self._jobs = RunJobs(settings, connection, self._leases, self._requests, self._stop)
        self._refinement = Refinement(
            settings,
            connection,
            self._leases,
            self._jobs.disks,
            serve=self._serve_while_refining,
            preempted=lambda: bool(self._jobs) or self._stop.is_set(),
            weights=lambda uid: self._requests.options(uid)[0],
        )
        self._renewed = renewed
        self._adopt_every_s = settings.denoise.lease.total_seconds() / 4
        self._next_poll = self._next_renewal = self._next_trim = self._next_adoption = self._next_requests = 0.0

    def step(self) -> bool:
        """Process new rows, then spend at most one burst on learning. False when there was nothing to do."""
        if not self._wakeups.started:
            self._wakeups.start()
            self._next_adoption = 0.0
        self._start_requested()
        return self._process()

    def _start_requested(self) -> None:
        for uid in self._requests.poll():
            self._jobs.pop(uid, None)  # it begins anew, also when it was about to finish
            self._jobs.failures.forget(uid)
            self._jobs.start(uid)

    def trouble(self) -> str:
        """Return what is wrong, for the heartbeat; empty while all runs can be denoised and written."""
        found = (self._jobs.disks.reason, self._jobs.failures.reason, self._refinement.failures.reason)
        return " ".join(reason for reason in found if reason)

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
            self._jobs.release(job)

    def _process(self) -> bool:
        busy = any(job.has_work for job in self._jobs.values())
        worked = self._serve_rows() if busy else self._serve_now(block_ms=250)
        for job in sorted(self._jobs.values(), key=lambda job: job.priority):
            self._jobs.try_again(job)
            if not self._rows_wait():
                worked |= self._jobs.guard(job, partial(job.learn, self._interrupted, partial(self._serve_during, job)))
            if job.finished and not job.lease_lost:
                self._jobs.guard(job, partial(self._jobs.settle, job))
        if not worked and not self._jobs:
            worked = self._refinement.step()
        if time.monotonic() >= self._next_trim:
            self._next_trim = time.monotonic() + _TRIM_EVERY_S
            for stream in (keys.ROWS, keys.MAPS, keys.EVENTS):
                trim_older(self._redis, stream)
        return worked

    def _rows_wait(self) -> bool:
        """Return True when there are rows that are due to be served."""
        return self._pace.due and self._wakeups.waiting()

    def _serve_rows(self) -> bool:
        """Process the rows that wait; False when there are none, or when the last were served a moment ago."""
        if self._pace.due:
            return self._serve_now()
        self._renew_leases()
        return False

    def _serve_now(self, block_ms: int = 0) -> bool:
        """Process the rows that wait; False when there are none after `block_ms`."""
        rows = self._wakeups.read(block_ms)
        self._renew_leases()
        if time.monotonic() >= self._next_adoption:
            self._adopt_orphans()
            self._next_adoption = time.monotonic() + self._adopt_every_s
        for uid, numbers in rows.items():
            self._renew_leases()
            job = self._jobs.get(uid) or self._jobs.start(uid)
            if job is not None:
                job.add_pending(numbers)
        worked, began = False, time.monotonic()
        for job in list(self._jobs.values()):
            worked |= self._jobs.guard(job, partial(job.process_rows, partial(self._check, job)))
        if worked:
            self._pace.served(time.monotonic() - began)
        return worked

    def _check(self, job: DenoiseJob) -> None:
        """Keep all leases while one of many runs is worked on; end that work when it is of no use any more."""
        self._stop.check()
        self._renew_leases()
        if job.lease_lost:
            raise LeaseLostError

    def _serve_during(self, job: DenoiseJob) -> None:
        """Process the rows that wait while a job computes; end its computation when it is of no use any more."""
        self._stop.check()
        self._serve_rows()
        self._stop.check()
        if job.lease_lost:
            raise LeaseLostError

    def _adopt_orphans(self) -> None:
        """Start jobs for runs that have unfinished maps and no worker, also for those whose worker went silent."""
        adopted = 0
        for uid in find_orphans(self._redis, failed=not self._jobs):  # a run that failed waits for a quiet moment
            if self._stop.is_set() or adopted == _ADOPTED_AT_ONCE:  # the next look, or another worker, takes more
                break
            self._renew_leases()
            adopted += uid not in self._jobs and self._jobs.start(uid) is not None
        for failures in (self._jobs.failures, self._refinement.failures):
            failures.keep(lambda uid: (self._settings.runs_dir / uid / "zarr.json").exists())

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
            return self._rows_wait()
        except redis.RedisError as error:
            if not redis_outage(error):
                raise
            return True

    def _serve_while_refining(self) -> None:
        """Start jobs of new rows and of requests: any of them ends the refinement."""
        if time.monotonic() >= self._next_requests:
            self._next_requests = time.monotonic() + _REQUESTS_S
            self._start_requested()
        self._serve_rows()

    def _renew_leases(self) -> None:
        now = time.monotonic()
        if now < self._next_renewal:
            return
        self._next_renewal = now + self._settings.denoise.lease.total_seconds() / 4
        self._renewed()
        wrong = self.trouble()
        metrics.gauge(self._redis, "quietbeam_runs_failed", len(self._jobs.failures) + len(self._refinement.failures))
        state = "degraded" if wrong else "ready"  # a step may take longer than a beat
        heartbeat(self._redis, self.name, state=state, detail=wrong or f"{len(self._jobs)} runs leased")
        backlog_s = sum(job.backlog_s for job in self._jobs.values())
        metrics.gauge(self._redis, "quietbeam_denoise_backlog_seconds", backlog_s)
        for job in list(self._jobs.values()):
            if not self._leases.renew(job.lease):
                self._jobs.lose(job)
