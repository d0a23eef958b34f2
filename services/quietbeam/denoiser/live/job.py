"""One run in the hands of the denoise worker: rows in, maps out, learning in between, a last pass at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import structlog

from quietbeam.buffer import MapHistory, RunBuffer
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import DenoiseSettings
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection, emit
from quietbeam_models.network import Denoiser

from ..options import DenoiseOptions, MapUpdate
from ..session import DenoiseSession

log = structlog.get_logger()

_STATE_EVERY_S = 0.5
_BAND_ROWS = 64
_FINAL_STATES = (
    RunState.COMPLETE,
    RunState.INCOMPLETE,
    RunState.ABORTED,
    RunState.FAILED,
    RunState.STALE,  # finished as it is; a row that still comes opens it again
)


class LiveRun:
    """Drives a :class:`DenoiseSession` with the rows of one run and writes what it gives.

    Parameters
    ----------
    buffer
        The run's buffer, writable.
    connection
        Redis client, for states and wake-ups.
    settings
        Budgets and thresholds.
    weights
        Name of the pretrained weights; empty for the newest.
    final_budget_s
        Fine-tuning at the end, instead of `settings.final_budget`.
    """

    def __init__(
        self,
        buffer: RunBuffer,
        connection: Connection,
        settings: DenoiseSettings,
        *,
        weights: str = "",
        final_budget_s: float | None = None,
        start: Denoiser | None = None,
    ) -> None:
        self.buffer = buffer
        self.info = buffer.info
        self.lost = False
        self.finished = False
        self._redis = connection
        self._settings = settings
        self._weights, self._start = weights, start
        self._final_s = settings.final_budget.total_seconds() if final_budget_s is None else final_budget_s
        self._session: DenoiseSession | None = None
        self._raw_only = ""
        self._dirty: set[int] = set()
        self._served: set[int] = set()  # rows whose maps were written while a band of the map was computed
        self._known = np.zeros(self.info.shape, dtype=bool)
        self._version = int(buffer.map_attributes().get("version", 0))
        self._evidence: RunEvidence | None = None
        self._history = MapHistory(buffer)
        self._state = RunState.RUNNING
        self._state_at = -_STATE_EVERY_S
        self._spent_s = self._final_spent_s = 0.0
        self._steps = self._taken = 0
        self._evaluated_at = -settings.evaluate_every.total_seconds()
        self._evaluated: tuple[int, int] | None = None
        n_det, n_line, (rows, cols) = len(self.info.detectors), len(self.info.lines), self.info.shape
        needed = 4 * n_det * n_line * rows * cols
        if needed > settings.max_live_bytes:
            self._raw_only = (
                f"the run needs {needed / 2**30:.1f} GiB to denoise live (denoise.max_live_bytes allows "
                f"{settings.max_live_bytes / 2**30:.1f}); its raw map is shown, `quietbeam denoise` does it afterwards"
            )
        self.mark_all_dirty()

    # --- rows in ------------------------------------------------------------------------------------------------

    def mark_dirty(self, rows: Iterable[int]) -> None:
        """Note rows that were committed (again)."""
        self._dirty.update(row for row in rows if 0 <= row < self.info.shape[0])

    def mark_all_dirty(self) -> None:
        """Note every row that holds a measured pixel."""
        self.mark_dirty(np.flatnonzero(self.buffer.measured().any(axis=1)).tolist())

    @property
    def trouble(self) -> str:
        """Why the run is shown raw; empty when it is denoised."""
        return self._raw_only

    @property
    def learned(self) -> Denoiser | None:
        """Weights that were learned so far, for the next map of a stack."""
        return self._session.learned if self._session is not None else self._start

    @property
    def rows(self) -> int:
        """Rows taken in so far that hold a measured pixel."""
        return int(self._known.any(axis=1).sum())

    @property
    def wants_time(self) -> bool:
        """True when :meth:`refresh` or :meth:`learn` would do something now."""
        return bool(self._dirty) or self._ended or self._evaluation_due or self._may_fine_tune

    def refresh(self) -> bool:
        """Take in the noted rows and write their maps. Bounded by one strip (or, for many rows, one map) inference."""
        self._read_state()
        if not self._dirty:
            return False
        dirty, self._dirty = sorted(self._dirty), set()
        first, stop = dirty[0], dirty[-1] + 1
        for start, end in _spans(dirty):
            self._take_in(start, end)
        if self._raw_only:
            for start, end in _spans(dirty):
                self._write_raw(start, end)
            return True
        session = self._denoiser()
        whole = len(dirty) > self.info.shape[0] // 2
        judgements = session.judgements
        update = session.infer(None if whole else (first, stop))
        if (
            session.judgements != judgements
        ):  # the rows asked for a new choice; all maps follow with the next evaluation
            self._evidence, self._evaluated = session.evidence(), None
        self._write(update)
        self._served.update(range(*update.rows))
        self._notify(update.rows, lag_s=self._commit_age(stop - 1))
        return True

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(self, interrupt: Callable[[], bool], between: Callable[[], object]) -> bool:
        """Evaluate, fine-tune for at most one burst, or (when the run has ended) finish. False when idle.

        `interrupt()` True ends a burst; `between()` is called every 50 ms or so, to serve rows that wait.
        """
        if self._ended:
            return self._finish(interrupt, between)
        if self._raw_only:
            return False
        if self._evaluation_due:
            self._evaluate(between)
            return True
        if self._may_fine_tune:
            self._spent_s += self._burst(self._settings.live_budget.total_seconds() - self._spent_s, interrupt, between)
            return True
        return False

    def fall_back(self, reason: str) -> None:
        """Give up denoising this run: its raw map stays, with the reason."""
        self._raw_only = reason
        self._session = None
        self._evidence = None
        self._known[:] = False
        self.mark_all_dirty()
        runs.write_status(self._redis, self.info.uid, denoise_state="failed", denoise_reason=reason)
        metrics.count(self._redis, "quietbeam_denoise_failures_total")

    @property
    def _ended(self) -> bool:
        return self._state in _FINAL_STATES and not self._dirty

    @property
    def _evaluation_due(self) -> bool:
        if self._raw_only or self.rows < min(self._settings.first_map_rows, self.info.shape[0]):
            return False
        if self._evaluated is None:
            return True
        waited = time.monotonic() - self._evaluated_at >= self._settings.evaluate_every.total_seconds()
        # rows that came again count: passes over the same pixels bring counts, not rows
        return waited and self._evaluated != (self._taken, self._steps)

    @property
    def _may_fine_tune(self) -> bool:
        return (
            self._settings.fine_tune
            and not self._raw_only
            and self._evaluated is not None
            and self._spent_s < self._settings.live_budget.total_seconds()
            and not self._denoiser().learned_enough
        )

    def _burst(
        self, left_s: float, interrupt: Callable[[], bool], between: Callable[[], object], *, last: bool = False
    ) -> float:
        started = time.monotonic()
        burst = left_s if last else min(self._settings.burst.total_seconds(), left_s)
        steps = self._denoiser().fine_tune(burst, interrupt, anneal=last, look=last, between=between)
        self._steps += steps
        metrics.count(self._redis, "quietbeam_fine_tune_steps_total", steps)
        return max(time.monotonic() - started, 1e-3)

    def _evaluate(self, between: Callable[[], object]) -> None:
        session = self._denoiser()
        judged = (self._taken, self._steps)
        self._evidence = session.evaluate(between)
        self._evaluated = judged
        for first in range(0, self.info.shape[0], _BAND_ROWS):
            band = self._known[first : first + _BAND_ROWS].any(axis=1)
            if band.any():
                self._served.clear()
                update = session.infer((first, first + int(np.flatnonzero(band)[-1]) + 1), between)
                if self._raw_only:  # a row that was served in between could not be denoised
                    return
                self._write(update, but=self._served)
        # Measured from its end, so that evaluation never takes more than its share on a slow machine.
        self._evaluated_at = time.monotonic()
        self._notify((0, self.info.shape[0]), lag_s=None)
        self._remember()

    def _finish(self, interrupt: Callable[[], bool], between: Callable[[], object]) -> bool:
        """Spend the final budget (rows of other runs interrupt it), then write the final maps."""
        final_s = self._final_s
        missed = self.buffer.measured() != self._known
        if missed.any():
            self.mark_dirty(np.flatnonzero(missed.any(axis=1)).tolist())
            return True
        if self._raw_only or not self._known.any():
            self._close_run(None)
            return True
        if self._settings.fine_tune and self._final_spent_s < final_s:
            self._final_spent_s += self._burst(final_s - self._final_spent_s, interrupt, between, last=True)
            return True
        taken = self._taken
        update, evidence = self._denoiser().finalize(0.0, between=between)
        if self._taken != taken or self._raw_only:
            return True  # a row came late: finish again with it
        self._write(update)
        self._close_run(evidence)
        return True

    def _close_run(self, evidence: RunEvidence | None) -> None:
        self._evidence = evidence
        self._notify((0, self.info.shape[0]), lag_s=None, final=True)
        self._remember(final=True)
        self.finished = True
        log.info("run_final", run=self.info.uid, rows=self.rows, fine_tune_steps=self._steps)

    # --- maps out -----------------------------------------------------------------------------------------------

    def _denoiser(self) -> DenoiseSession:
        if self._session is None:
            self._session = DenoiseSession(
                lines=self.info.lines,
                detectors=self.info.detectors,
                shape=self.info.shape,
                kind=self.info.kind,
                device=self._settings.device,
                seed=self._settings.seed,
                settings=DenoiseOptions(weights=self._weights),
                start=self._start,
            )
        return self._session

    def _take_in(self, start: int, stop: int) -> None:
        blocks = [self.buffer.read_row(row) for row in range(start, stop)]
        measured = np.stack([block.measured for block in blocks])
        self._known[start:stop] = measured
        self._taken += 1
        if self._raw_only:
            return
        self._denoiser().add_rows(
            start,
            np.stack([block.counts for block in blocks], axis=2),
            measured,
            i0=np.stack([block.i0 for block in blocks]) if blocks[0].i0 is not None else None,  # type: ignore[misc]
            live_time_s=np.stack([block.live_time_s for block in blocks], axis=1)  # type: ignore[misc]
            if blocks[0].live_time_s is not None
            else None,
        )

    def _write_raw(self, start: int, stop: int) -> None:
        """Write the plain detector sum as both maps, its counting error as uncertainty."""
        for row in range(start, stop):
            counts: Any = self.buffer.read_row(row).counts
            raw = np.asarray(np.nansum(counts, axis=0, dtype=np.float64), np.float32)[:, None, :]
            self.buffer.write_maps(row, raw, raw, np.sqrt(np.abs(raw)))
        self._notify((start, stop), lag_s=None)

    def _write(self, maps: MapUpdate, but: Collection[int] = ()) -> None:
        """Write the maps, `but` for rows that newer maps were written of while these were computed."""
        first = maps.rows[0]
        for start, stop in _spans([row for row in range(*maps.rows) if row not in but]):
            at = slice(start - first, stop - first)
            self.buffer.write_maps(
                start, maps.raw[:, at], maps.denoised[:, at], maps.uncertainty[:, at], chi2=maps.chi2[:, at]
            )

    def _notify(self, rows: tuple[int, int], *, lag_s: float | None, final: bool = False) -> None:
        """Attributes on disk first, then the state hash, then the wake-ups."""
        uid = self.info.uid
        evidence = self._evidence.to_dict() if self._evidence else None
        state = "final" if final else "raw_only" if self._raw_only else "live"
        self._version += 1
        self.buffer.update_map_attributes(version=self._version, rows=self.rows, final=final, evidence=evidence)
        runs.write_status(
            self._redis,
            uid,
            denoise_state=state,
            denoise_reason=self._raw_only,
            denoise_rows=self.rows,
            maps_version=self._version,
            evidence=self._evidence,
            **({"denoise_lag_s": round(lag_s, 4)} if lag_s is not None else {}),
        )
        self._redis.xadd(
            keys.MAPS,
            {
                "run": uid,
                "first_row": rows[0],
                "stop_row": rows[1],
                "version": self._version,
                "final": int(final),
            },
        )
        emit(self._redis, "map", uid, version=self._version, rows=self.rows, final=final)
        metrics.count(self._redis, "quietbeam_maps_denoised_total")
        if lag_s is not None:
            metrics.gauge(self._redis, "quietbeam_frame_latency_seconds", lag_s)

    def _remember(self, *, final: bool = False) -> None:
        """Keep this state of the maps for the history of the run; a full disk costs the history, not the run."""
        if self._evidence is None:
            return
        try:
            self._history.note(self._version, self._evidence, self._known, final=final)
        except OSError as error:
            log.warning("history_not_written", run=self.info.uid, error=str(error))

    def _commit_age(self, row: int) -> float:
        """Seconds since the row's commit mark was written (file time and wall clock of one machine)."""
        mark = self.buffer.path / "measured" / "c" / str(row) / "0"
        try:
            return max(0.0, time.time() - mark.stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def _read_state(self) -> None:
        if time.monotonic() - self._state_at < _STATE_EVERY_S:
            return
        self._state_at = time.monotonic()
        value: Any = self._redis.hget(keys.run(self.info.uid), "state")
        if value is not None:
            self._state = RunState(value.decode())


def _spans(rows: list[int]) -> list[tuple[int, int]]:
    """Return half-open spans of consecutive numbers in the sorted list `rows`."""
    spans: list[tuple[int, int]] = []
    for row in rows:
        if spans and spans[-1][1] == row:
            spans[-1] = (spans[-1][0], row + 1)
        else:
            spans.append((row, row + 1))
    return spans
