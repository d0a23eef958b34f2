"""The runs that a worker has: how a job begins and ends, and how its errors stay with its run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import DamagedRunError, InputError, LeaseLostError, NotMeasuredError
from quietbeam.core.process.outage import redis_outage
from quietbeam.core.process.stop import StoppedError, StopRequest
from quietbeam.core.settings import Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.fence import Lease

from .action_requests import ActionRequests
from .disk import DiskOutages
from .failures import Failures, explain
from .job import DenoiseJob
from .leases import RunLeases
from .run_announcer import RunAnnouncer
from .stack_weights import StackWeights

log = structlog.get_logger()


class RunJobs(dict[str, DenoiseJob]):
    """The jobs of a worker by run.

    Attributes
    ----------
    disks
        The troubles of writing, by run.
    failures
        Runs on which the denoiser failed.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        leases: RunLeases,
        requests: ActionRequests,
        stop: StopRequest,
    ) -> None:
        super().__init__()
        self._settings, self._redis, self._leases, self._requests = settings, connection, leases, requests
        self._stop = stop
        self._stacks = StackWeights()
        self.disks, self.failures = DiskOutages(settings.runs_dir), Failures()

    def start(self, uid: str) -> DenoiseJob | None:
        """Lease a run and start its job; None when another worker has it, or nothing is buffered."""
        disk = self.disks.of(uid)
        if self._leases.taken(uid) or disk.pauses() or self.failures.pauses(uid):
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
        self.failures.begin(uid)
        self[uid] = job
        log.info("run_leased", run=uid, number=lease.token, lines=len(job.info.lines), shape=job.info.shape)
        return job

    def _make_job(self, buffer: RunBuffer, lease: Lease) -> DenoiseJob:
        weights, budget_s = self._requests.options(lease.uid)
        start = None if weights else self._stacks.before(buffer.info, self.values())
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

    def _leave(self, uid: str, error: Exception, lease: Lease | None) -> None:
        """Leave a run for now whose job could not begin; raise what is no trouble of this run."""
        if redis_outage(error):
            raise error
        if lease is not None:
            self._leases.release(lease)
        if isinstance(error, NotMeasuredError | InputError | LeaseLostError):
            self.disks.forget(uid)
            self.failures.forget(uid)
            return
        if isinstance(error, OSError) and self.disks.of(uid).begin(error):
            return
        sentence = self._note_failure(uid, error)
        if lease is not None:
            with suppress(LeaseLostError):
                RunAnnouncer(self._redis, lease).failed(sentence)

    def _note_failure(self, uid: str, error: Exception) -> str:
        """Log a failure of the denoiser, and return what people are told of it."""
        sentence = explain(uid, error)
        log.error("denoiser_failed", run=uid, exc_info=error)
        self.failures.add(uid, sentence)
        return sentence

    def _leave_damaged(self, uid: str, error: DamagedRunError, lease: Lease | None = None) -> None:
        """Leave a run alone until it is repaired; its maps stay as they are."""
        self.pop(uid, None)
        runs.note_damage(self._redis, uid, error, denoise_state="failed", denoise_reason=str(error))
        self.disks.forget(uid)
        self.failures.forget(uid)
        if lease is not None:
            with suppress(LeaseLostError):  # another worker has it, and says the same
                self._requests.settle(lease, str(error))
            self._leases.release(lease)

    def settle(self, job: DenoiseJob) -> bool:
        """Say that the run has its final maps, and give it back."""
        if not job.failure:
            self.failures.forget(job.info.uid)
        self._requests.settle(job.lease, job.raw_only_reason)
        self.release(job)
        return True

    def release(self, job: DenoiseJob) -> None:
        """Give a run back, so that another worker can go on at once."""
        self._stacks.store(job)
        self.pop(job.info.uid, None)
        self.disks.forget(job.info.uid)
        self._leases.release(job.lease)

    def lose(self, job: DenoiseJob) -> None:
        """Drop a job whose run another worker has; nothing that it still computes is written."""
        if not job.lease_lost:
            log.warning("lease_lost", run=job.info.uid, number=job.lease.token, remedy="none: another worker goes on")
        job.lease_lost = True
        if self.get(job.info.uid) is job:
            del self[job.info.uid]
            self.disks.forget(job.info.uid)

    def guard(self, job: DenoiseJob, work: Callable[[], bool]) -> bool:
        """Do `work`; an error of the denoiser costs the run its denoised map, never its raw map or other runs."""
        disk = self.disks.of(job.info.uid)
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
            self.lose(job)
            return True
        except NotMeasuredError:  # deleted
            self.failures.forget(job.info.uid)
            self.release(job)
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

    def try_again(self, job: DenoiseJob) -> None:
        """Denoise a run again on which the denoiser failed, when its pause is over."""
        uid = job.info.uid
        if job.failure and not (self.failures.pauses(uid) or self.disks.of(uid).pauses()):
            self.failures.begin(uid)
            self.guard(job, job.try_again)

    def _fail(self, job: DenoiseJob, error: Exception) -> None:
        """Show a run raw that the denoiser failed on; leave it where that fails, too."""
        sentence, had_failed = self._note_failure(job.info.uid, error), bool(job.failure)
        try:
            job.fall_back(sentence)
        except LeaseLostError:
            self.lose(job)
        else:
            if had_failed:
                self.release(job)
