"""One map as ingest sees it: data documents become rows on disk and, in the end, a final state. Knows no Redis."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.buffer.examination import damages
from quietbeam.buffer.repair import mend
from quietbeam.core.errors import DamagedRunError, DocumentError
from quietbeam.core.model.types import RunInfo, RunState
from quietbeam.core.settings import Settings

from ..documents.delivery import Pending
from ..documents.model import Event, EventPage, Start, Stop, StreamDatum
from ..frames.file_frames import FileFrames
from ..frames.legacy_datums import DatumStore
from ..frames.line_counts import check_windows
from ..profile.layout import Layout
from ..rows.choose import MOST_CHECKED, assembler_of
from ..rows.positioned import PositionedRows
from .admission import admit, run_info
from .condition import RunCondition
from .final_state import end_of
from .intake import Intake
from .readbacks import with_readbacks
from .results import Phase, PollResult, RowsWritten

log = structlog.get_logger()

_NOT_NORMALISED = (
    "I0 is never positive: the map is NOT NORMALISED; check the ion chamber, or `i0` of the beamline profile"
)


class RunAssembly:
    """Rows and state of one map; to the rest of quietbeam, a map is a run.

    Parameters
    ----------
    start, layout
        Start document and how counts are found.
    condition
        What people are told of it.
    files, datums
        What is announced in files: stream documents, and old-style datums.
    settings
        Limits, folders, timeouts.
    source
        Transport, for the provenance.

    Raises
    ------
    BufferConflictError, InputError
        The buffer on disk belongs to another map, or there is no room for this one.
    """

    def __init__(
        self,
        start: Start,
        layout: Layout,
        condition: RunCondition,
        files: FileFrames,
        datums: DatumStore,
        settings: Settings,
        source: str,
    ) -> None:
        self.uid, self.time_start = start.run, start.time
        self.layout, self.condition = layout, condition
        self.stop: Stop | None = None
        self.phase = Phase.OPEN
        self._stale_after_s = settings.ingest.stale_after.total_seconds()
        self._result = PollResult()
        self._placed = self._without_flux = False
        info = run_info(start, layout, source)
        notes = [
            *admit(info, settings, sums=layout.geometry.sums),
            *layout.notes,
            *_points_warning(layout),
            *_unchecked(info),
        ]
        self.buffer, repaired = _buffer_of(info, settings)
        notes += repaired
        self.buffer.begin_writing()
        self._rows = assembler_of(self.buffer, layout, settings.ingest.max_pixels)
        timeout_s = settings.ingest.file_timeout.total_seconds()
        self._intake = Intake(layout, self._rows, files, datums, condition, timeout_s)
        condition.keep_in(self.buffer)
        for sentence in notes:
            condition.warn(sentence)
        if condition.state is RunState.UNUSABLE:
            condition.become(RunState.RUNNING)
        condition.mark_changed()
        log.info(
            "run_opened", run=self.uid, shape=layout.geometry.shape, lines=layout.lines, detectors=len(layout.detectors)
        )

    @property
    def info(self) -> RunInfo:
        """What is known of the run."""
        return self.buffer.info

    @property
    def idle(self) -> bool:
        """True when nothing is announced or unwritten."""
        return not self._intake.awaits_data and not self._rows.dirty

    def status(self) -> dict[str, Any]:
        """Return the fields of the run's hash that ingest writes."""
        return {
            "info": self.info,
            "state": self.condition.state.value,
            "reason": self.condition.reason,
            "time_stop": self.stop.time if self.stop is not None else None,
            "rows_measured": self._rows.rows_measured,
            "pixels_measured": self._rows.pixels_measured,
            "warnings": self.condition.warnings,
        }

    def handle_data(self, document: Event | EventPage | StreamDatum, pending: Pending, now: float) -> None:
        """Put the frames of a document in their rows, or wait for the file they are in.

        Raises
        ------
        DocumentError
            Some of it cannot be used; the rest was.
        OSError
            The disk cannot be read or written; give the document again later.
        """
        self.condition.document_came(now)
        if self.phase is Phase.GIVEN_UP:
            pending.retain()  # never released: ingest gets it again when it has been mended and restarted
            return
        try:
            self._intake.handle_document(document, pending, now)
        except DocumentError as error:
            raise DocumentError(f"run {self.uid}: {error}") from error
        finally:
            if self.phase is Phase.ENDED and self._rows.dirty:
                self.phase = Phase.OPEN

    def handle_stop(self, stop: Stop) -> None:
        """No more documents are expected; the first stop document counts."""
        if self.stop is None:
            self.stop = stop
            self.condition.mark_changed()

    def poll(self, now: float, *, more_held: bool = False) -> PollResult:
        """Look at files again, write the rows that are due, end the run when everything is there.

        Parameters
        ----------
        now
            Monotonic time.
        more_held
            Documents of the run are held elsewhere, so it cannot end yet.

        Raises
        ------
        OSError
            The disk cannot be read or written; call again.
        """
        if self.phase is Phase.GIVEN_UP:
            return PollResult()
        if self._intake.awaits_data:
            self._result.refused.extend(self._intake.poll(now))
            if self.phase is Phase.ENDED and self._rows.dirty:
                self.phase = Phase.OPEN
        stopped = self.stop is not None and not more_held
        everything = (stopped and not self._intake.awaits_data) or self.condition.state is RunState.STALE
        self._result.rows_written.extend(self._flush(now, everything=everything))
        self._follow_readbacks()
        if sentence := check_windows(self.layout):
            self.condition.warn(sentence)
        if stopped and self.phase is Phase.OPEN and self.idle:
            self._end()
        if self.stop is None:
            self.condition.check_silence(now, self._stale_after_s)
        result, self._result = self._result, PollResult()
        return result

    def flush(self) -> list[RowsWritten]:
        """Write everything that is in memory.

        Raises
        ------
        OSError
            The disk cannot be written; call again.
        """
        return self._flush(time.monotonic(), everything=True)

    def take_writes(self) -> set[Path]:
        """Return the files that were written since the last call and may not be on disk yet."""
        return self.buffer.writes.take()

    def give_up(self, reason: str) -> None:
        """Write no more; what is not on disk stays unacknowledged, so that a mended ingest gets it again."""
        reason = f"run {self.uid}: {reason}; its documents are kept until ingest is restarted"
        self.condition.become(RunState.UNUSABLE, reason)
        self.phase = Phase.GIVEN_UP

    def _flush(self, now: float, *, everything: bool) -> list[RowsWritten]:
        rows = self._rows.flush(now, everything=everything)
        if not rows:
            return []
        self.condition.mark_changed()
        self._warn_missing_flux()
        return [
            RowsWritten(
                run=self.uid,
                rows=tuple(rows),
                pixels_measured=self._rows.pixels_measured,
                last_document=self.condition.last_document,
            )
        ]

    def _warn_missing_flux(self) -> None:
        """Say that a run with I0 is not normalised, and let a restarted ingest know it."""
        if self._rows.without_flux != self._without_flux:
            self._without_flux = self._rows.without_flux
            self.buffer.update_state({"without_flux": self._without_flux})
        if self._without_flux:
            self.condition.warn(_NOT_NORMALISED, once=True)
        else:
            self.condition.withdraw(_NOT_NORMALISED)

    def _follow_readbacks(self, *, ended: bool = False) -> None:
        """Let the run's info say where its pixels are, as soon as the motors' readings tell, and again at its end."""
        if not isinstance(self._rows, PositionedRows):
            return
        info, order, axes = self.info, self._rows.order, self._rows.axes
        if order is info.order and not ended and (self._placed or axes.grid is None):
            return
        self._placed = axes.grid is not None
        refined = with_readbacks(info, order, axes.rows, axes.cols)
        if refined != info:
            self.buffer.update_info(refined)
            self.condition.mark_changed()

    def _end(self) -> None:
        assert self.stop is not None
        self._intake.end()
        self._follow_readbacks(ended=True)
        end = end_of(self.stop, self.layout, self._rows, self._intake.frames_per_event)
        for warning in end.warnings:
            self.condition.warn(warning, once=True)
        self.condition.become(end.state, end.reason)
        self.phase = Phase.ENDED


def _points_warning(layout: Layout) -> list[str]:
    points, pixels = layout.geometry.points, layout.geometry.pixels
    if points is None or points == pixels or layout.datasets or layout.geometry.sums:
        return []
    return [f"the plan announces {points} points, the map has {pixels} pixels"]


def _buffer_of(info: RunInfo, settings: Settings) -> tuple[RunBuffer, list[str]]:
    """Return the buffer of a run, mended where it is damaged, and what was mended."""
    root, durable = settings.runs_dir, settings.ingest.fsync
    try:
        buffer = RunBuffer.create(root, info, durable=durable)
        if found := next(damages(root, info.uid, maps=False), ""):
            raise DamagedRunError(found)
        return buffer, []
    except DamagedRunError as error:
        log.error("run_damaged", run=info.uid, error=str(error), remedy="it is measured: ingest mends it")
        repair = mend(root, info.uid, info=info)
        return RunBuffer.create(root, info, durable=durable), [f"repaired: {text}" for text in repair.sentences]


def _unchecked(info: RunInfo) -> list[str]:
    if not info.has_positions or max(info.shape) <= MOST_CHECKED:
        return []
    return [f"the order of a map of more than {MOST_CHECKED} rows or columns is not checked against the motors"]
