"""A batch: as many files at once as there are workers; a file that a worker died of is tried again alone, with less."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from quietbeam.core.errors import ServiceError
from quietbeam.core.process.stop import StopRequest

from .cluster import slots
from .job import Job, Outcome, run_job
from .record import path_of

_SMALLEST_TILE = 32
_LOOK_S = 2.0


class OutputFullError(ServiceError):
    """The disk of the output folder is full; what is finished is kept."""


class Batch:
    """Files on the workers of a Dask client.

    Parameters
    ----------
    resources
        That every file takes of its worker.
    retries
        How often a file is tried again that killed its worker or ran out of memory: alone, with half the tile.
    on_outcome
        Called with the outcome of every file.
    on_workers
        Called with the number of workers, now and then.
    at_once
        Most files at once; by default as many as there are workers.
    stop
        Ends the batch when it is set; looked at every two seconds.
    """

    def __init__(
        self,
        client: Any,
        resources: Mapping[str, int] | None,
        retries: int,
        on_outcome: Callable[[Outcome], object],
        on_workers: Callable[[int], object] = lambda _: None,
        at_once: int | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self._client = client
        self._resources = resources
        self._retries = retries
        self._on_outcome = on_outcome
        self._on_workers = on_workers
        self._at_once = at_once
        self._stop = stop or StopRequest()
        self._running: dict[Any, Job] = {}

    def run(self, jobs: Sequence[Job]) -> None:
        """Work on all files.

        Raises
        ------
        OutputFullError
            The disk is full. Files that were being worked on are given up.
        ServiceError
            The scheduler is gone.
        StoppedError
            The batch is to end. Files that were being worked on are given up.
        """
        try:
            again = self._round(jobs, at_once=self._at_once, last=self._retries == 0, attempt=0)
            for attempt in range(1, self._retries + 1):
                smaller = [
                    replace(job, options=replace(job.options, tile=max(_SMALLEST_TILE, job.options.tile // 2)))
                    for job in again
                ]
                again = self._round(smaller, at_once=1, last=attempt == self._retries, attempt=attempt)
        finally:
            with suppress(Exception):  # a scheduler that is gone has cancelled them itself
                self._client.cancel(list(self._running), force=True)

    def _round(self, jobs: Sequence[Job], *, at_once: int | None, last: bool, attempt: int) -> list[Job]:
        """Return the files that are worth another try."""
        waiting, again = deque(jobs), list[Job]()
        while waiting or self._running:
            self._stop.check()
            there = self._slots()
            self._on_workers(there)
            while waiting and len(self._running) < (at_once or max(there, 1)):
                self._submit(waiting.popleft())
            for future in self._finished():
                job = self._running.pop(future)
                if self._stop.is_set() and future.status != "finished":
                    continue  # Ctrl-C ends the workers, too
                outcome = self._outcome(job, future)
                future.release()
                if outcome.status == "out of memory" and not last:
                    again.append(job)
                    continue
                self._on_outcome(_final(outcome, attempt))
                if outcome.status == "disk full":
                    raise OutputFullError(
                        f"{job.target} could not be written, the disk is full", remedy=f"make room and {_AGAIN}"
                    )
        return again

    def _slots(self) -> int:
        try:
            return slots(self._client, self._resources)
        except Exception as error:  # there is no one error for a scheduler that is gone
            raise ServiceError(f"the Dask scheduler is gone ({type(error).__name__})", remedy=_AGAIN) from error

    def _submit(self, job: Job) -> None:
        future = self._client.submit(run_job, job, pure=False, resources=dict(self._resources or {}) or None)
        self._running[future] = job

    def _finished(self) -> list[Any]:
        from distributed import wait

        try:
            done = wait(list(self._running), timeout=_LOOK_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            done = set()
        except Exception as error:
            raise ServiceError(f"the Dask scheduler is gone ({type(error).__name__})", remedy=_AGAIN) from error
        if self._client.status not in ("running", "newly-created"):
            raise ServiceError("the Dask scheduler is gone", remedy=_AGAIN)
        return list(done)

    def _outcome(self, job: Job, future: Any) -> Outcome:
        from distributed import KilledWorker

        if future.status in ("cancelled", "lost"):
            raise ServiceError("the Dask scheduler has dropped a file", remedy=_AGAIN)
        if future.status == "finished":
            return future.result()
        error = future.exception()
        failed = Outcome(source=job.source, target=str(job.target), status="failed")
        if isinstance(error, KilledWorker):
            return replace(
                failed,
                status="out of memory",
                error="its worker was killed: most often by the operating system or a batch system, for its memory",
            )
        return replace(failed, error=f"{type(error).__name__}: {error}")


def _final(outcome: Outcome, attempt: int) -> Outcome:
    """Return what is reported of a file that is not tried again."""
    if outcome.status not in ("out of memory", "disk full"):
        return outcome
    tried = f" (tried {attempt + 1} times)" if attempt else ""
    return replace(outcome, status="failed", error=f"{outcome.error}{tried}")


_AGAIN = "run the same command again: what is finished is kept and skipped"


def remove_leftovers(output: Path, targets: Iterable[Path]) -> None:
    """Remove what writers of this batch that were killed have left; what others write below the folder stays.

    Parameters
    ----------
    targets
        Results of the batch. No other batch works on their output folder.
    """
    import shutil

    results: dict[Path, set[str]] = {output: {"report.md", "report.csv"}}
    for target in targets:
        results.setdefault(target.parent, set()).update((target.name, path_of(target).name))
    for folder, names in results.items():
        for left in folder.glob(".quietbeam-*"):
            if left.is_dir():
                inside = {path.name for path in left.iterdir()}
                if inside & names and inside <= names | {"replaced"}:
                    shutil.rmtree(left, ignore_errors=True)
            elif left.name.removeprefix(".quietbeam-").partition("-")[2] in names:
                left.unlink(missing_ok=True)


LOCK = ".quietbeam-batch.lock"
