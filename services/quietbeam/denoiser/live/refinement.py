"""Refinement: the final maps of finished runs are improved while no run is live.

Final maps are written seconds after the end of a run. Longer work waits until the worker is idle: more fine-tuning,
averages over flips, non-local means, the combination. The run is read again from its buffer, so that any worker may
refine it, also after a restart. A run that becomes live ends the refinement, which begins anew later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import DamagedRunError, InputError, LeaseLostError, NotMeasuredError
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.settings import DenoiseSettings, Settings
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.fence import Lease

from ..options import MapUpdate, SessionOptions
from ..session import DenoiseSession
from .leases import RunLeases
from .map_writer import MapWriter, spans
from .row_reader import read_rows
from .run_announcer import RunAnnouncer

log = structlog.get_logger()

_READ_ROWS = 64
_POLL_S = 1.0
NOT_BETTER = "more fine-tuning and averaging were tried after the end; held-out counts do not say that they are better"


class _PreemptedError(Exception):
    """A run became live, the worker stops, or another worker has the run."""


class Refinement:
    """Refines one run at a time, the newest first.

    Parameters
    ----------
    serve
        Serves rows and requests that wait; called every 50 ms or so.
    preempted
        True when the worker has something else to do.
    weights
        Returns what :func:`~quietbeam_models.weights.load_weights` takes for a run.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        leases: RunLeases,
        *,
        serve: Callable[[], object],
        preempted: Callable[[], bool],
        weights: Callable[[str], str],
    ) -> None:
        self._settings, self._redis, self._leases = settings, connection, leases
        self._serve, self._preempted, self._weights = serve, preempted, weights
        self._next_poll = self._next_renewal = 0.0
        self._lease: Lease | None = None

    def add(self, uid: str) -> None:
        """Add a run that has its final maps."""
        self._redis.zadd(keys.REFINE, {uid: time.time()})
        self._next_poll = 0.0

    def step(self) -> bool:
        """Refine the newest run that waits, or begin to; False when none does."""
        if time.monotonic() < self._next_poll or self._preempted():
            return False
        waiting: Any = self._redis.zrange(keys.REFINE, 0, -1, desc=True)
        metrics.gauge(self._redis, "quietbeam_runs_to_refine", len(waiting))
        self._next_poll = time.monotonic() + _POLL_S
        uid = next((uid for uid in map(bytes.decode, waiting) if not self._leases.taken(uid)), None)
        if uid is None:
            return False
        self._next_poll = 0.0
        try:
            buffer = RunBuffer.open(self._settings.runs_dir, uid, writable=True)
        except (InputError, NotMeasuredError) as error:  # deleted meanwhile
            log.info("refinement_dropped", run=uid, reason=str(error))
            self._redis.zrem(keys.REFINE, uid)
            return True
        except DamagedRunError as error:
            self._drop_damaged(uid, error)
            return True
        try:
            self._lease = self._leases.acquire(buffer)
        except DamagedRunError as error:
            self._drop_damaged(uid, error)
            return True
        if self._lease is None:
            return False
        try:
            self._refine(buffer, self._lease)
            self._redis.zrem(keys.REFINE, uid)
        except (_PreemptedError, LeaseLostError):
            log.info("refinement_interrupted", run=uid)
        except (InputError, NotMeasuredError, FileNotFoundError, MemoryError) as error:
            log.warning("refinement_failed", run=uid, reason=f"{type(error).__name__}: {error}")
            self._redis.zrem(keys.REFINE, uid)
        except DamagedRunError as error:
            self._drop_damaged(uid, error)
        finally:
            self._leases.release(self._lease)
        return True

    def _drop_damaged(self, uid: str, error: DamagedRunError) -> None:
        """Leave the maps of a run whose files cannot be read as they are."""
        runs.note_damage(self._redis, uid, error)
        self._redis.zrem(keys.REFINE, uid)

    def _refine(self, buffer: RunBuffer, lease: Lease) -> None:
        uid = buffer.info.uid
        status = runs.read_status(self._redis, uid)
        if status is None or status.denoise_state != "final" or status.evidence is None or status.evidence.refined:
            return
        session, settings = self._session(buffer, self._weights(uid)), self._settings.denoise
        if settings.fine_tune:
            budget_s = settings.final_budget.total_seconds()
            session.fine_tune(budget_s, self._interrupt, anneal=True, yield_callback=self._yield)
        self._yield()
        update, evidence = session.finalize(0.0, yield_callback=self._yield)
        self._yield()
        if runs.read_status(self._redis, uid) is None:  # deleted meanwhile
            return
        better = improvement(evidence, status.evidence)
        if better <= 0:
            update = _maps_of(buffer)
            evidence = replace(status.evidence, refined=True, notes=(*status.evidence.notes, NOT_BETTER))
        announcer = RunAnnouncer(self._redis, lease)
        writer = MapWriter(buffer, lease.token, announcer.next_version)
        writer.write(update)
        version = writer.finish_version(evidence.rows, evidence, final=True)
        announcer.maps_written(
            update.rows, version, rows_denoised=evidence.rows, evidence=evidence, raw_only="", final=True
        )
        writer.record_history(evidence, buffer.measured(), final=True)
        log.info("run_refined", run=uid, log_improvement=round(better, 3), fine_tune_steps=evidence.fine_tune_steps)

    def _session(self, buffer: RunBuffer, weights: str) -> DenoiseSession:
        """Return a session with the counts of the run."""
        info, settings = buffer.info, self._settings.denoise
        session = DenoiseSession(
            lines=info.lines,
            detectors=info.detectors,
            shape=info.shape,
            kind=info.kind,
            options=refining_options(settings, weights),
        )
        measured = np.flatnonzero(buffer.measured().any(axis=1)).tolist()
        for start, stop in spans(measured):
            for first in range(start, stop, _READ_ROWS):
                rows = read_rows(buffer, first, min(first + _READ_ROWS, stop))
                session.add_rows(first, rows.counts, rows.measured, i0=rows.i0, live_time_s=rows.live_time_s)
                self._yield()
        return session

    def _interrupt(self) -> bool:
        self._yield()
        return False

    def _yield(self) -> None:
        """Serve rows that wait; end the refinement when there is something else to do."""
        self._serve()
        if self._preempted():
            raise _PreemptedError
        now = time.monotonic()
        if self._lease is not None and now >= self._next_renewal:
            self._next_renewal = now + self._settings.denoise.lease.total_seconds() / 4
            if not self._leases.renew(self._lease):
                raise _PreemptedError


def _maps_of(buffer: RunBuffer) -> MapUpdate:
    """Return the maps as they are."""
    raw, denoised, uncertainty, chi2 = (buffer.read_map(kind) for kind in ("raw", "denoised", "uncertainty", "chi2"))
    return MapUpdate(rows=(0, buffer.info.shape[0]), raw=raw, denoised=denoised, uncertainty=uncertainty, chi2=chi2)


def refining_options(settings: DenoiseSettings, weights: str) -> SessionOptions:
    """Return the options of a session that refines."""
    return SessionOptions(device=settings.device, seed=settings.seed, weights=weights)


def improvement(refined: RunEvidence, final: RunEvidence) -> float:
    """Return the mean logarithm by which dwell gains grew from the final to the refined maps, over the lines."""
    changes = []
    for line in refined.lines:
        before = final.line(line.line)
        if before is not None:
            changes.append(np.log((line.dwell_gain or 1.0) / (before.dwell_gain or 1.0)))
    return float(np.mean(changes)) if changes else 0.0
