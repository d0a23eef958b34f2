"""The loop of one run: rows in, maps out, learning when no row waits, a last pass when the run has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable

import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.settings import DenoiseSettings
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.fence import Lease
from quietbeam_models.network import Denoiser

from ..options import SessionOptions, never
from ..session import DenoiseSession
from .detector_groups import DetectorGroups
from .map_rows import MapRows
from .map_writer import MapWriter, spans
from .row_reader import age_of_row_s, read_rows
from .run_announcer import RunAnnouncer, Shortcomings
from .run_state import RunStatePoller
from .window import TOO_FEW_ROWS_IN_MEMORY, RowWindow, too_large

log = structlog.get_logger()

_BAND_ROWS = 64
_REWRITE_PAUSE = 4.0
"""Pause after all maps were written anew, in units of the time that it took."""
_EVALUATION_PAUSE = 0.5
"""Pause after an evaluation, in units of the time that it took: some time is left for fine-tuning."""
_HISTORY_S = 5.0
"""Least time between two states of the maps in the history of a live run."""
_AT_ONCE_S = 3.0
"""The final maps are refined before they are written where that takes less than this."""


class DenoiseJob:
    """Drives a :class:`DenoiseSession` with the rows of one run.

    Maps are written by a :class:`MapWriter` and announced by a :class:`RunAnnouncer`.

    Parameters
    ----------
    buffer
        The run's buffer, writable.
    connection
        Redis client, for states and wake-ups.
    lease
        Lease of the run, under which everything is written.
    settings
        Budgets and thresholds.
    weights
        Name of the pretrained weights; empty for the newest.
    final_budget_s
        Fine-tuning at the end, instead of `settings.final_budget`.
    start
        Weights of the map before in a stack.
    at_leisure
        True when the final maps are to be refined before they are written, however long it takes.

    Attributes
    ----------
    finished
        True after the final maps.
    failure
        Why the denoiser failed on this run; empty where it did not.
    refinable
        True when the final maps can be improved without haste, see :mod:`.refinement`.
    lease_lost
        Set by the stage when another worker has the run.
    """

    def __init__(
        self,
        buffer: RunBuffer,
        connection: Connection,
        lease: Lease,
        settings: DenoiseSettings,
        *,
        weights: str = "",
        final_budget_s: float | None = None,
        start: Denoiser | None = None,
        at_leisure: bool = False,
    ) -> None:
        self.buffer, self.info, self.lease = buffer, buffer.info, lease
        self.lease_lost = False
        self.finished = self.refinable = False
        self.failure = self._unrefined = ""
        self._settings, self._weights, self._start = settings, weights, start
        self._at_leisure = at_leisure or not settings.refine
        self._announcer = RunAnnouncer(connection, lease)
        self._writer = MapWriter(buffer, lease.token, self._announcer.next_version)
        self._state = RunStatePoller(connection, self.info.uid)
        self._session: DenoiseSession | None = None
        self._window, self._grew = RowWindow(self.info), False
        self._raw_only = too_large(self.info, settings.max_live_bytes)
        self._groups = DetectorGroups.fitting(self.info, settings.max_live_bytes) or DetectorGroups.apart(self.info)
        self._rows = MapRows(buffer)
        self._written_meanwhile: set[int] = set()  # rows whose maps were written while a band of the map was computed
        self._blocks_read = self._steps = self._passes = 0
        self._evidence: RunEvidence | None = None
        self._evaluated: tuple[int, ...] | None = None  # `_progress` at the last evaluation
        self._next_evaluation = self._next_rewrite = self._next_history = 0.0
        self._recipe: tuple[Hashable, ...] = ()  # by which all maps were last written, or are being written
        self._bands_to_rewrite: list[int] = []
        self._rewriting_since = 0.0
        self._may_score_more = False
        self._ended_at: float | None = None
        self._live_budget_s = settings.live_budget.total_seconds()
        self._final_budget_s = settings.final_budget.total_seconds() if final_budget_s is None else final_budget_s

    def add_pending(self, rows: Iterable[int]) -> None:
        """Add rows that were committed (again) and wait for their maps."""
        self._rows.add(rows)

    def add_all_pending(self) -> None:
        """Add every row that holds a measured pixel."""
        self._rows.let_all_wait()

    @property
    def raw_only_reason(self) -> str:
        """Why the run is shown raw; empty when it is denoised."""
        return self._raw_only

    @property
    def learned(self) -> Denoiser | None:
        """Weights that were learned so far, for the next map of a stack."""
        return self._session.learned if self._session is not None else self._start

    @property
    def version(self) -> int:
        """Number of the latest version of the maps."""
        return self._writer.version

    @property
    def rows(self) -> int:
        """Number of rows in the maps that hold a measured pixel."""
        return len(self._rows)

    @property
    def priority(self) -> int:
        """What :meth:`learn` would do, smallest first: finish, evaluate, fine-tune."""
        return 0 if self._ended else 1 if self._evaluation_due else 2

    @property
    def backlog_s(self) -> float:
        """About how long the final maps take that are due [s]; 0 while the run goes on."""
        if self._session is None or self._raw_only or not self._state.ended:
            return 0.0
        return self._session.conclude_s()

    @property
    def has_work(self) -> bool:
        """True when :meth:`process_rows` or :meth:`learn` would do something now."""
        learns = self._evaluation_due or self._bands_to_rewrite or self._may_score_more or self._may_fine_tune
        return bool(self._rows.waits or self._ended or learns)

    def process_rows(self, check: Callable[[], object] = never) -> bool:
        """Add the pending rows and write their maps; False when there are none.

        Bounded by one inference of a strip, or of the map for many rows. `check()` is called many times in it, and may
        raise to end it.
        """
        self._state.poll()
        pending = self._rows.next_pending()
        if not pending:
            return False
        pending = self._make_room(pending)
        for start, stop in spans(pending):
            self._add_rows(start, stop, check)
        if self._raw_only:
            for row in pending:
                check()
                self._writer.write_raw(row, row + 1)
            self._announce((pending[0], pending[-1] + 1))
            return True
        session = self._denoiser()
        version = session.evaluation_version
        many, first = len(pending) > self._window.rows // 2, self._window.first
        strip = (pending[0] - first, pending[-1] + 1 - first)
        update = self._window.moved(session.infer(None if many else strip, check))
        if session.evaluation_version != version:
            # the rows required a new evaluation; all maps follow with the next one
            self._evidence, self._evaluated = session.evidence(), None
        self._writer.write(update)
        self._written_meanwhile.update(range(*update.rows))
        self._announce(update.rows, lag_s=age_of_row_s(self.buffer, pending[-1]))
        return True

    def learn(self, interrupt: Callable[[], bool], yield_callback: Callable[[], object]) -> bool:
        """Finish when the run has ended, else evaluate, write maps anew or fine-tune for one burst; False when idle.

        ``interrupt()`` True ends a burst; ``yield_callback()`` is called every 50 ms or so, to serve rows that wait.
        """
        if self._ended:
            self._finish(interrupt, yield_callback)
        elif self._evaluation_due:
            self._evaluate(yield_callback)
        elif self._bands_to_rewrite:
            self._rewrite_band(yield_callback)
        elif self._may_score_more:
            more = self._denoiser().evaluate_more(yield_callback)
            self._passes += more
            self._may_score_more = more and not self._may_fine_tune
        elif self._may_fine_tune:
            budget_s = min(self._settings.burst.total_seconds(), self._live_budget_s)
            self._live_budget_s -= self._burst(budget_s, interrupt, yield_callback)
            self._may_score_more = True  # in turns
        else:
            return False
        return True

    def fall_back(self, reason: str) -> None:
        """Stop denoising this run until :meth:`try_again`: its raw map is shown, with the reason."""
        self.failure = self._raw_only = reason
        self._begin_anew()
        self._announcer.failed(reason)

    def try_again(self) -> bool:
        """Denoise the run again after a failure."""
        self.failure, self._raw_only = "", too_large(self.info, self._settings.max_live_bytes)
        self._begin_anew()
        return True

    def _begin_anew(self) -> None:
        """Forget the rows that were added, and add all of them again."""
        self._session = self._evidence = self._evaluated = None
        self._bands_to_rewrite.clear()
        self._recipe = ()
        self._rows.begin_anew()

    @property
    def _ended(self) -> bool:
        return self._state.ended and not self._rows.waits

    @property
    def _evaluation_due(self) -> bool:
        if self._raw_only or self.rows < min(self._settings.first_map_rows, self.info.shape[0]):
            return False
        if self._evaluated is None:
            return True
        # rows that came again count: passes over the same pixels bring counts, not rows
        return time.monotonic() >= self._next_evaluation and self._evaluated != self._progress

    @property
    def _progress(self) -> tuple[int, ...]:
        """Blocks of rows read, steps of fine-tuning, and passes beside those that new rows needed."""
        return self._blocks_read, self._steps, self._passes

    @property
    def _may_fine_tune(self) -> bool:
        return (
            self._settings.fine_tune
            and not self._raw_only
            and self._evaluated is not None
            and self._live_budget_s > 0
            and not self._denoiser().learned_enough
        )

    def _burst(
        self,
        budget_s: float,
        interrupt: Callable[[], bool],
        yield_callback: Callable[[], object],
        *,
        last: bool = False,
    ) -> float:
        """Fine-tune for at most ``budget_s``; return the seconds spent, above 0."""
        started = time.monotonic()
        steps = self._denoiser().fine_tune(
            budget_s, interrupt, anneal=last, check_at_end=last, yield_callback=yield_callback
        )
        self._steps += steps
        self._announcer.fine_tuned(steps)
        return max(time.monotonic() - started, 1e-3)

    def _evaluate(self, yield_callback: Callable[[], object]) -> None:
        """Evaluate, and have all maps written anew where they are made differently now."""
        session, started = self._denoiser(), time.monotonic()
        evaluated = self._progress
        self._evidence = session.evaluate(yield_callback, complete=False)
        self._evaluated, self._may_score_more = evaluated, True
        pause = _EVALUATION_PAUSE * (time.monotonic() - started)
        self._next_evaluation = time.monotonic() + max(self._settings.evaluate_every.total_seconds(), pause)
        newest = max(self._rows.numbers)
        self._announce((newest, newest + 1))
        due = not self._bands_to_rewrite and time.monotonic() >= self._next_rewrite
        if due and session.recipe != self._recipe:
            self._recipe, self._rewriting_since = session.recipe, time.monotonic()
            self._bands_to_rewrite = sorted({row // _BAND_ROWS for row in self._rows.numbers})
        if time.monotonic() >= self._next_history:
            self._next_history = time.monotonic() + _HISTORY_S
            self._writer.record_history(self._evidence, self._rows.measured)

    def _rewrite_band(self, yield_callback: Callable[[], object]) -> None:
        """Write the maps of the next band that is to be written anew."""
        session, band = self._denoiser(), self._bands_to_rewrite.pop(0)
        if not any(row // _BAND_ROWS == band for row in self._rows.numbers):
            return
        rows, first = self._rows.of_band(band, _BAND_ROWS), self._window.first
        self._written_meanwhile.clear()
        update = session.infer((max(rows.start - first, 0), rows.stop - first), yield_callback)
        if self._raw_only or self._session is not session:
            return  # a row that was served meanwhile could not be denoised, or needed more room
        update = self._window.moved(update)
        self._writer.write(update, skip_rows=self._written_meanwhile)
        self._announce(update.rows)
        if not self._bands_to_rewrite:
            self._next_rewrite = time.monotonic() + _REWRITE_PAUSE * (time.monotonic() - self._rewriting_since)

    def _finish(self, interrupt: Callable[[], bool], yield_callback: Callable[[], object]) -> None:
        """Write the final maps: at once, unless the best there can be take only a moment."""
        if self._rows.add_missed():
            return
        if self._raw_only or not self._rows.numbers:
            self._close(None)
            return
        session, learns = self._denoiser(), self._settings.fine_tune and self._final_budget_s > 0
        thoroughly = self._at_leisure or session.finalize_s() + self._final_budget_s * learns < _AT_ONCE_S
        if thoroughly and learns:
            self._final_budget_s -= self._burst(self._final_budget_s, interrupt, yield_callback, last=True)
            return
        blocks_read = self._blocks_read
        if thoroughly:
            update, evidence = session.finalize(0.0, yield_callback=yield_callback)
        else:
            update, evidence = session.conclude(self._time_left_s(), yield_callback)
        if self._blocks_read != blocks_read or self._raw_only:
            return  # a row came late: finish again with it
        self._writer.write(self._window.moved(update))
        self.refinable = not thoroughly and self._window.is_whole
        self._unrefined = "" if thoroughly or self.refinable else TOO_FEW_ROWS_IN_MEMORY
        self._close(evidence)

    def _time_left_s(self) -> float:
        """Return how much is left of the time in which the final maps are due [s]."""
        if self._ended_at is None:
            self._ended_at = time.monotonic()
        return self._ended_at + self._settings.final_within.total_seconds() - time.monotonic()

    def _close(self, evidence: RunEvidence | None) -> None:
        self._evidence = evidence
        self._announce((0, self.info.shape[0]), final=True)
        self._writer.record_history(evidence, self._rows.measured, final=True)
        self.finished = True
        log.info("run_final", run=self.info.uid, rows=self.rows, fine_tune_steps=self._steps)

    def _denoiser(self) -> DenoiseSession:
        if self._session is None:
            self._session = DenoiseSession(
                lines=self.info.lines,
                detectors=self._groups.names,
                shape=(self._window.rows, self.info.shape[1]),
                kind=self.info.kind,
                options=SessionOptions(device=self._settings.device, seed=self._settings.seed, weights=self._weights),
                start=self._start,
                carried=not self._grew,
                note=self._groups.note,
            )
        return self._session

    def _add_rows(self, start: int, stop: int, check: Callable[[], object]) -> None:
        """Read rows ``[start, stop)`` from the buffer and add them to the session."""
        self._blocks_read += 1
        if self._raw_only:
            for row in range(start, stop):
                check()
                self._rows.mark(row, self.buffer.read_part("measured", row, slice(None)))
            return
        rows = read_rows(self.buffer, self._groups, start, stop, check)
        for row, measured in zip(range(start, stop), rows.measured, strict=True):
            self._rows.mark(row, measured)
        first = start - self._window.first
        self._denoiser().add_rows(first, rows.counts, rows.measured, i0=rows.i0, live_time_s=rows.live_time_s)

    def _make_room(self, pending: list[int]) -> list[int]:
        """Let the rows fit in memory; return the rows to add, all of them where the session begins anew."""
        if self._raw_only or self._window.holds(pending[0], pending[-1] + 1):
            return pending
        self._start, self._grew = self.learned, True
        self._window.grow(pending[0], pending[-1] + 1)
        if self._window.is_sparse(len(self._rows.numbers | set(pending))):
            self._raw_only = "the measured rows lie too far apart to be denoised live; the raw map is shown"
        self._begin_anew()
        self._rows.add(pending)
        return self._rows.next_pending()

    def _announce(self, rows: tuple[int, int], *, lag_s: float | None = None, final: bool = False) -> None:
        """Finish a version of the maps: attributes on disk first, then Redis."""
        version = self._writer.finish_version(self.rows, self._evidence, final=final, failure=self.failure)
        self._announcer.maps_written(
            rows,
            version,
            rows_denoised=self.rows,
            evidence=self._evidence,
            shortcomings=Shortcomings(raw_only=self._raw_only, failure=self.failure, unrefined=self._unrefined),
            lag_s=lag_s,
            final=final,
            refine=final and self.refinable,
        )
