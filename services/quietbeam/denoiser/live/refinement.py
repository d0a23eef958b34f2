"""Refinement: the final maps of finished runs are improved while no run is live.

Final maps are written seconds after the end of a run. Longer work waits until the worker is idle: more fine-tuning,
averages over flips, non-local means, the combination. The run is read again from its buffer, so that any worker may
refine it, also after a restart. A run that becomes live ends the refinement, which begins anew later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import DamagedRunError, InputError, LeaseLostError, NotMeasuredError
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.process.outage import redis_outage
from quietbeam.core.process.stop import StoppedError
from quietbeam.core.settings import DenoiseSettings, Settings
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.fence import Lease

from ..options import MapUpdate, SessionOptions
from ..session import DenoiseSession
from .detector_groups import DetectorGroups
from .disk import DiskOutages
from .failures import Failures, explain
from .leases import RunLeases
from .map_writer import MapWriter, spans
from .row_reader import read_rows
from .run_announcer import RunAnnouncer
from .window import TOO_FEW_ROWS_IN_MEMORY, RowWindow, too_large

log = structlog.get_logger()

_READ_ROWS = 64
_POLL_S = 1.0
NOT_BETTER = "a refinement was tried after the end of the run; held-out counts do not say that it is better"


class _PreemptedError(Exception):
    """A run became live, the worker stops, or another worker has the run."""


class Refinement:
    """Refines one run at a time, the newest first.

    A run that fails, or whose folder cannot be written, is tried again after growing pauses; the next one has its turn.

    Parameters
    ----------
    disks
        The troubles of writing, by run.
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
        disks: DiskOutages,
        *,
        serve: Callable[[], object],
        preempted: Callable[[], bool],
        weights: Callable[[str], str],
    ) -> None:
        self._settings, self._redis, self._leases = settings, connection, leases
        self._serve, self._preempted, self._weights = serve, preempted, weights
        self._disks, self.failures = disks, Failures()
        self._next_poll = self._next_renewal = 0.0
        self._lease: Lease | None = None

    def step(self) -> bool:
        """Refine the newest run that waits, or begin to; False when none does."""
        if time.monotonic() < self._next_poll or self._preempted():
            return False
        waiting: Any = self._redis.zrange(keys.REFINE, 0, -1, desc=True)
        metrics.gauge(self._redis, "quietbeam_runs_to_refine", len(waiting))
        self._next_poll = time.monotonic() + _POLL_S
        uid = next((uid for uid in map(bytes.decode, waiting) if self._is_free(uid)), None)
        if uid is None:
            return False
        self._next_poll = 0.0
        self._lease = None
        try:
            buffer = RunBuffer.open(self._settings.runs_dir, uid, writable=True)
            self._lease = self._leases.acquire(buffer)
        except (InputError, NotMeasuredError) as error:  # deleted meanwhile
            log.info("refinement_dropped", run=uid, reason=str(error))
            self._settle(uid)
            return True
        except DamagedRunError as error:
            self._drop_damaged(uid, error)
            return True
        except OSError as error:
            self._fail(uid, error)
            return True
        self.failures.begin(uid)
        if self._lease is None:
            return False
        try:
            self._refine(buffer, self._lease)
            self._settle(uid)
        except (_PreemptedError, LeaseLostError):
            log.info("refinement_interrupted", run=uid)
        except DamagedRunError as error:
            self._drop_damaged(uid, error)
        except StoppedError:
            raise
        except Exception as error:
            if redis_outage(error):
                raise
            self._fail(uid, error)
        finally:
            self._leases.release(self._lease)
        return True

    def _settle(self, uid: str) -> None:
        """Forget a run that is refined, cannot be, or is gone."""
        self._redis.zrem(keys.REFINE, uid)
        self.failures.forget(uid)
        self._disks.forget(uid)

    def _fail(self, uid: str, error: Exception) -> None:
        """Say that a try failed; the run waits for the next one, and costs the others nothing."""
        if isinstance(error, OSError) and self._disks.of(uid).begin(error):
            return
        if isinstance(error, NotMeasuredError) or not (self._settings.runs_dir / uid / "zarr.json").exists():
            log.info("refinement_dropped", run=uid, reason=str(error))
            self._settle(uid)
            return
        sentence = explain(uid, error, refining=True)
        log.exception("refinement_failed", run=uid)
        self.failures.add(uid, sentence)
        if self._lease is not None:
            with suppress(LeaseLostError):
                RunAnnouncer(self._redis, self._lease).refinement_failed(sentence)

    def _is_free(self, uid: str) -> bool:
        if self._disks.of(uid).pauses() or self.failures.pauses(uid):
            return False
        return not self._leases.taken(uid) and not self._is_requested(uid)

    def _is_requested(self, uid: str) -> bool:
        """Return True when somebody asked for the run to be denoised again: a job does that."""
        return bool(self._redis.hexists(keys.run(uid), "denoise_request"))

    def _drop_damaged(self, uid: str, error: DamagedRunError) -> None:
        """Leave the maps of a run whose files cannot be read as they are."""
        runs.note_damage(self._redis, uid, error)
        self._settle(uid)

    def _refine(self, buffer: RunBuffer, lease: Lease) -> None:
        uid = buffer.info.uid
        status = runs.read_status(self._redis, uid)
        if status is None or status.denoise_state != "final" or status.evidence is None or status.evidence.refined:
            return
        if too_large(buffer.info, self._settings.denoise.max_live_bytes) or not RowWindow(buffer.info).is_whole:
            RunAnnouncer(self._redis, lease).not_refined(TOO_FEW_ROWS_IN_MEMORY)
            return
        session, settings = self._session(buffer, self._weights(uid)), self._settings.denoise
        if settings.fine_tune:
            budget_s = settings.final_budget.total_seconds()
            session.fine_tune(budget_s, self._interrupt, anneal=True, yield_callback=self._yield)
        self._yield()
        update, evidence = session.finalize(0.0, yield_callback=self._yield)
        self._yield()
        if self._redis.hget(keys.run(uid), "denoise_state") != b"final":  # deleted, or asked for again
            return
        better = improvement(evidence, status.evidence)
        if better <= 0:
            update = _maps_of(buffer)
            tested = any(line.verdict != "not_tested" for line in status.evidence.lines)
            notes = (*status.evidence.notes, *([NOT_BETTER] if tested else []))
            evidence = replace(status.evidence, refined=True, notes=notes)
        announcer = RunAnnouncer(self._redis, lease)
        writer = MapWriter(buffer, lease.token, announcer.next_version)
        writer.write(update)
        rows = status.denoise_rows
        version = writer.finish_version(rows, evidence, final=True)
        announcer.maps_written(update.rows, version, rows_denoised=rows, evidence=evidence, final=True)
        writer.record_history(evidence, buffer.measured(), final=True)
        log.info("run_refined", run=uid, log_improvement=round(better, 3), fine_tune_steps=evidence.fine_tune_steps)

    def _session(self, buffer: RunBuffer, weights: str) -> DenoiseSession:
        """Return a session with the counts of the run."""
        info, settings = buffer.info, self._settings.denoise
        groups = DetectorGroups.fitting(info, settings.max_live_bytes) or DetectorGroups.apart(info)
        session = DenoiseSession(
            lines=info.lines,
            detectors=groups.names,
            shape=info.shape,
            kind=info.kind,
            options=refining_options(settings, weights),
            note=groups.note,
        )
        measured = np.flatnonzero(buffer.measured().any(axis=1)).tolist()
        for start, stop in spans(measured):
            for first in range(start, stop, _READ_ROWS):
                rows = read_rows(buffer, groups, first, min(first + _READ_ROWS, stop))
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
            if self._is_requested(self._lease.uid) or not self._leases.renew(self._lease):
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
