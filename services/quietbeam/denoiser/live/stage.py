"""The denoise stage: leases runs, denoises committed rows, fine-tunes when no row waits, finishes with a last pass.

The stream ``qb:rows`` only wakes the worker up; what is measured is read from zarr. A worker that dies loses nothing:
its lease runs out (or the restarted worker, which has the same name, takes it back at once) and the next one reads the
run from zarr. A worker that was stopped and goes on writes nothing over its successor: see `core.wire.fence`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import redis
import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import DamagedRunError, InputError, LeaseLostError, NotMeasuredError
from quietbeam.core.process.outage import redis_outage
from quietbeam.core.process.stage import heartbeat
from quietbeam.core.process.stop import StoppedError, StopRequest
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection, trim_older
from quietbeam.core.wire.fence import Lease

from ..estimators.device import pick_device
from .action_requests import ActionRequests
from .disk import DiskOutages
from .failures import Failures, explain
from .job import DenoiseJob
from .leases import RunLeases
from .orphans import find_orphans
from .refinement import Refinement
from .row_pace import RowPace
from .row_wakeups import RowWakeUps
from .run_announcer import RunAnnouncer
from .stack_weights import StackWeights

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
        self._jobs: dict[str, DenoiseJob] = {}
        self._stacks = StackWeights()
        self._leases = RunLeases(connection, owner, settings.denoise.lease)
        self._wakeups, self._pace = RowWakeUps(connection), RowPace()
        self._requests = ActionRequests(connection, owner, settings.denoise.weights, settings.weights_dir)
        self._disks, self._failures = DiskOutages(settings.runs_dir), Failures()
        self._refinement = Refinement(
            settings,
            connection,
            self._leases,
            self._disks,
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
            self._failures.forget(uid)
            self._start_job(uid)

    def trouble(self) -> str:
        """Return what is wrong, for the heartbeat; empty while all runs can be denoised and written."""
        found = (self._disks.reason, self._failures.reason, self._refinement.failures.reason)
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
            self._release(job)

    def _process(self) -> bool:
        busy = any(job.has_work for job in self._jobs.values())
        worked = self._serve_rows() if busy else self._serve_now(block_ms=250)
        for job in sorted(self._jobs.values(), key=lambda job: job.priority):
            if job.failure and not self._failures.pauses(job.info.uid):
                self._failures.begin(job.info.uid)
                self._guard(job, job.try_again)
            if not self._rows_wait():
                worked |= self._guard(job, partial(job.learn, self._interrupted, partial(self._serve_during, job)))
            if job.finished and not job.lease_lost:
                self._guard(job, partial(self._settle, job))
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
            job = self._jobs.get(uid) or self._start_job(uid)
            if job is not None:
                job.add_pending(numbers)
        worked, began = False, time.monotonic()
        for job in list(self._jobs.values()):
            worked |= self._guard(job, partial(job.process_rows, partial(self._check, job)))
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
            adopted += uid not in self._jobs and self._start_job(uid) is not None

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

    def _start_job(self, uid: str) -> DenoiseJob | None:
        """Lease a run and start its job; None when another worker has it, or nothing is buffered."""
        disk = self._disks.of(uid)
        if self._leases.taken(uid) or disk.pauses() or self._failures.pauses(uid):
            return None
        lease: Lease | None = None
        try:
            buffer = RunBuffer.open(self._settings.runs_dir, uid, writable=True)
            lease = self._leases.acquire(buffer)
            job = None if lease is None else self._make_job(buffer, lease)
        except DamagedRunError as error:
            self._leave_damaged(uid, error, lease)
            return None
        except Exception as error:
            self._leave(uid, error, lease)
            return None
        if job is None or lease is None:
            return None
        disk.end()
        self._failures.begin(uid)
        self._jobs[uid] = job
        log.info("run_leased", run=uid, number=lease.token, lines=len(job.info.lines), shape=job.info.shape)
        return job

    def _make_job(self, buffer: RunBuffer, lease: Lease) -> DenoiseJob:
        weights, budget_s = self._requests.options(lease.uid)
        start = None if weights else self._stacks.before(buffer.info, self._jobs.values())
        return DenoiseJob(
            buffer,
            self._redis,
            lease,
            self._settings.denoise,
            weights=weights,
            final_budget_s=budget_s,
            start=start,
            at_leisure=self._requests.waits(lease.uid),
        )

    def _serve_while_refining(self) -> None:
        """Start jobs of new rows and of requests: any of them ends the refinement."""
        if time.monotonic() >= self._next_requests:
            self._next_requests = time.monotonic() + _REQUESTS_S
            self._start_requested()
        self._serve_rows()

    def _leave(self, uid: str, error: Exception, lease: Lease | None) -> None:
        """Leave a run for now whose job could not begin; raise what is no trouble of this run."""
        if redis_outage(error):
            raise error
        if lease is not None:
            self._leases.release(lease)
        if isinstance(error, NotMeasuredError | InputError | LeaseLostError):
            self._disks.forget(uid)
            self._failures.forget(uid)
            return
        if isinstance(error, OSError) and self._disks.of(uid).begin(error):
            return
        sentence = self._note_failure(uid, error)
        if lease is not None:
            with suppress(LeaseLostError):
                RunAnnouncer(self._redis, lease).failed(sentence)

    def _note_failure(self, uid: str, error: Exception) -> str:
        """Log a failure of the denoiser, and return what people are told of it."""
        sentence = explain(uid, error)
        log.error("denoiser_failed", run=uid, exc_info=error)
        self._failures.add(uid, sentence)
        return sentence

    def _leave_damaged(self, uid: str, error: DamagedRunError, lease: Lease | None = None) -> None:
        """Leave a run alone until it is repaired; its maps stay as they are."""
        self._jobs.pop(uid, None)
        runs.note_damage(self._redis, uid, error, denoise_state="failed", denoise_reason=str(error))
        self._disks.forget(uid)
        self._failures.forget(uid)
        if lease is not None:
            with suppress(LeaseLostError):  # another worker has it, and says the same
                self._requests.settle(lease, str(error))
            self._leases.release(lease)

    def _renew_leases(self) -> None:
        now = time.monotonic()
        if now < self._next_renewal:
            return
        self._next_renewal = now + self._settings.denoise.lease.total_seconds() / 4
        self._renewed()
        wrong = self.trouble()
        metrics.gauge(self._redis, "quietbeam_runs_failed", len(self._failures) + len(self._refinement.failures))
        state = "degraded" if wrong else "ready"  # a step may take longer than a beat
        heartbeat(self._redis, self.name, state=state, detail=wrong or f"{len(self._jobs)} runs leased")
        backlog_s = sum(job.backlog_s for job in self._jobs.values())
        metrics.gauge(self._redis, "quietbeam_denoise_backlog_seconds", backlog_s)
        for job in list(self._jobs.values()):
            if not self._leases.renew(job.lease):
                self._lose(job)

    def _settle(self, job: DenoiseJob) -> bool:
        """Say that the run has its final maps, and give it back."""
        if not job.failure:
            self._failures.forget(job.info.uid)
        self._requests.settle(job.lease, job.raw_only_reason)
        self._release(job)
        return True

    def _release(self, job: DenoiseJob) -> None:
        self._stacks.store(job)
        self._jobs.pop(job.info.uid, None)
        self._disks.forget(job.info.uid)
        self._leases.release(job.lease)

    def _lose(self, job: DenoiseJob) -> None:
        """Drop a job whose run another worker has; nothing that it still computes is written."""
        if not job.lease_lost:
            log.warning("lease_lost", run=job.info.uid, number=job.lease.token, remedy="none: another worker goes on")
        job.lease_lost = True
        if self._jobs.get(job.info.uid) is job:
            del self._jobs[job.info.uid]
            self._disks.forget(job.info.uid)

    def _guard(self, job: DenoiseJob, work: Callable[[], bool]) -> bool:
        """Do `work`; an error of the denoiser costs the run its denoised map, never its raw map or other runs."""
        disk = self._disks.of(job.info.uid)
        if job.lease_lost or self._stop.is_set() or disk.pauses():
            return False
        version = job.version
        try:
            worked = work()
            if job.version != version:
                disk.end()
            return worked
        except StoppedError:  # the next worker computes it
            return False
        except LeaseLostError:
            self._lose(job)
            return True
        except NotMeasuredError:  # deleted
            self._failures.forget(job.info.uid)
            self._release(job)
            return False
        except DamagedRunError as error:
            self._leave_damaged(job.info.uid, error, job.lease)
            return True
        except Exception as error:
            if redis_outage(error):
                raise
            if isinstance(error, OSError) and disk.begin(error):
                job.add_all_pending()
                return False
            self._fail(job, error)
            return True

    def _fail(self, job: DenoiseJob, error: Exception) -> None:
        """Show a run raw that the denoiser failed on; leave it where that fails, too."""
        sentence, had_failed = self._note_failure(job.info.uid, error), bool(job.failure)
        try:
            job.fall_back(sentence)
        except LeaseLostError:
            self._lose(job)
        else:
            if had_failed:
                self._release(job)
