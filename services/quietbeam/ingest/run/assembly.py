"""One run as ingest sees it: documents in any order become rows and an honest state. Knows no Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core import codec
from quietbeam.core.errors import BufferConflictError, DocumentError, InputError, ProfileError
from quietbeam.core.model.types import RunInfo, RunState
from quietbeam.core.settings import Settings

from ..documents.delivery import Pending
from ..documents.model import (
    Datums,
    Descriptor,
    Document,
    Event,
    EventPage,
    Resource,
    Start,
    Stop,
    StreamDatum,
    StreamResource,
    merge_descriptors,
)
from ..frames.detector_files import DetectorFiles
from ..frames.file_frames import FileFrames
from ..frames.legacy_datums import DatumStore
from ..frames.line_counts import judge_spectra
from ..profile.layout import Layout, layout_of
from ..profile.resolve import ResolvedProfile, choose
from ..profile.schema import BeamlineProfile
from ..rows.assembler import RowAssembler
from ..rows.grid import GridAssembler, assembler_of
from .admission import admit, run_info
from .final_state import end_of, stopped_state
from .intake import Intake
from .stack import Stack

log = structlog.get_logger()

ORPHAN_S = 5.0
"""How long documents wait for the start (or descriptor) they need."""
MAX_HELD = 20_000
_NAMES: dict[type, str] = {
    Descriptor: "descriptor",
    Event: "event",
    EventPage: "event_page",
    StreamResource: "stream_resource",
    StreamDatum: "stream_datum",
    Stop: "stop",
    Resource: "resource",
    Datums: "datum",
}


class LiveRun:
    """State and data of one run.

    Parameters
    ----------
    uid
        Run uid.
    settings
        Limits, folders, timeouts.
    profiles
        Beamline profiles in the order in which they are tried.
    files
        Detector files, shared by the runs.
    source
        Transport, for the provenance.
    """

    def __init__(
        self,
        uid: str,
        settings: Settings,
        profiles: Sequence[BeamlineProfile],
        files: DetectorFiles,
        *,
        source: str = "",
    ) -> None:
        self.uid = uid
        self.source = source
        self._settings, self._profiles = settings, profiles
        self.start: Start | None = None
        self.stop: Stop | None = None
        self.buffer: RunBuffer | None = None
        self.rows: RowAssembler | GridAssembler | None = None
        self.intake: Intake | None = None
        self.stack: Stack | None = None
        self.layout: Layout | None = None
        self.state = RunState.RUNNING
        self.reason = ""
        self.changed = True
        self._refused = 0
        self._first_refusal = ""
        self.touched = self._held_since = time.monotonic()
        self._candidates: list[ResolvedProfile] = []
        self._descriptors: dict[str, Descriptor] = {}
        self._held: list[tuple[Document, Pending]] = []
        self._detector_files = files
        self._timeout_s = settings.ingest.file_timeout.total_seconds()
        self._files, self._datums = FileFrames(files, self._timeout_s), DatumStore(files)
        self.set_aside: list[tuple[str, str]] = []
        """(document name, reason) of what was given up since the service last looked."""
        self._layout_error = ""
        self._warnings: dict[str, int] = {}
        self._finished = self._reused = self._given_up = self._in_stack = False

    # --- what others read ---------------------------------------------------------------------------------------

    @property
    def info(self) -> RunInfo | None:
        """What is known of the run, or None before its descriptor."""
        return self.buffer.info if self.buffer is not None else None

    @property
    def is_stack(self) -> bool:
        """True when the run holds several maps, each of which is a run to others."""
        return self.stack is not None or any(resolved.geometry.maps > 1 for resolved in self._candidates)

    @property
    def descriptors(self) -> list[Descriptor]:
        """The descriptors that came."""
        return list(self._descriptors.values())

    @property
    def warnings(self) -> list[str]:
        """Sentences for people."""
        sentences = [text if n == 1 else f"{text} ({n} times)" for text, n in self._warnings.items()]
        if self._refused:
            first = "" if self._first_refusal == self.reason else f", the first: {self._first_refusal}"
            sentences.append(f"{self._refused} document(s) could not be used{first}")
        return sentences

    @property
    def idle(self) -> bool:
        """True when nothing is held, announced or unwritten."""
        waits = bool(self._files) if self.intake is None else self.intake.waits
        return not self._held and not waits and (self.rows is None or not self.rows.dirty)

    def status(self) -> dict[str, Any]:
        """Return the fields of the run's hash that ingest writes."""
        return {
            "info": self.info,
            "state": self.state.value,
            "reason": self.reason,
            "time_stop": self.stop.time if self.stop is not None else None,
            "rows_measured": self.rows.rows_measured if self.rows is not None else 0,
            "pixels_measured": self.rows.pixels_measured if self.rows is not None else 0,
            "warnings": self.warnings,
        }

    def warn(self, text: str, n: int = 1) -> None:
        """Add a sentence; equal ones are counted."""
        if text not in self._warnings and len(self._warnings) >= 50:
            text = "more warnings were left out"
        self._warnings[text] = self._warnings.get(text, 0) + n
        self.changed = True

    def refuse(self, reason: str) -> None:
        """Count a document that could not be used."""
        self._first_refusal = self._first_refusal or reason
        self._refused += 1
        self.changed = True

    def restore(self, state: RunState, warnings: Sequence[str]) -> None:
        """Take over what an earlier process said: its warnings, and that the scan is paused."""
        self._warnings = dict.fromkeys(warnings, 1) | self._warnings
        if state is RunState.PAUSED and not self.state.ended:
            self._become(state, "")

    # --- documents ----------------------------------------------------------------------------------------------

    def take(self, document: Document, pending: Pending, now: float) -> None:
        """Use one document.

        Raises
        ------
        DocumentError
            It cannot be used; the run goes on.
        OSError
            The disk refuses; give the document again later.
        """
        self.touched = now
        if self.state is RunState.STALE:
            self._become(RunState.RUNNING, "")
        if isinstance(document, Start):
            self._take_start(document)
        elif self.start is None:
            self._hold(document, pending, now)
        elif isinstance(document, Descriptor):
            self._take_descriptor(document)
        elif isinstance(document, StreamResource):
            self._files.know(document)
        elif isinstance(document, Stop):
            self._take_stop(document)
        elif isinstance(document, Event | EventPage | StreamDatum):
            self._take_data(document, pending, now)
        elif isinstance(document, Resource):
            self._datums.know(document)
        elif self.state is not RunState.UNUSABLE:
            self._datums.keep(document, pending)
        self._replay_held(now)

    def _take_start(self, start: Start) -> None:
        if self.start is not None:
            if codec.pack(self.start.doc) != codec.pack(start.doc):
                self._reused = True
                text = (
                    f"run {self.uid} started twice with different documents: the first run is kept, give each its uid"
                )
                self.warn(text)
                raise DocumentError(text)
            return
        self.start = start
        if self.state is RunState.UNUSABLE:
            self.warn("documents that came before the start document were given up")
            self._become(RunState.RUNNING, "")
        try:
            self._candidates = choose(self._profiles, start)
        except ProfileError as error:
            self._become(RunState.UNUSABLE, str(error))
        self.changed = True

    def _take_descriptor(self, descriptor: Descriptor) -> None:
        if descriptor.uid in self._descriptors:
            return
        if self._reused:
            raise DocumentError(f"run {self.uid}: its uid was used twice; documents of the second run are refused")
        self._descriptors[descriptor.uid] = descriptor
        reading = [resolved for resolved in self._candidates if resolved.reads(descriptor.stream)]
        # Series have a stream each: what the run has is known when the first of them brings something.
        if self.layout is not None or not reading or all(resolved.split_streams for resolved in reading):
            return
        try:
            self._open(descriptor)
        except OSError:
            del self._descriptors[descriptor.uid]
            raise

    def _open(self, descriptor: Descriptor) -> None:
        """Find the counts and make the buffer."""
        assert self.start is not None
        try:
            layout = layout_of(self._candidates, descriptor)
            if layout.geometry.maps > 1:
                self.layout, self.stack = layout, Stack(self.start, layout, self._open_map, self._settings.runs_dir)
                return
            info = run_info(self.start, layout, self.source)
            for sentence in admit(info, self._settings):
                self.warn(sentence)
            buffer = RunBuffer.create(self._settings.runs_dir, info)
        except (ProfileError, BufferConflictError, InputError) as error:
            self._layout_error = str(error)
            self._become(RunState.UNUSABLE, str(error))
            raise DocumentError(str(error)) from error
        self._begin(layout, buffer)

    def _begin(self, layout: Layout, buffer: RunBuffer) -> None:
        assert self.start is not None
        self.layout, self.buffer = layout, buffer
        self.rows = assembler_of(buffer, layout, self._settings.ingest.max_pixels)
        for sentence in layout.notes:
            self.warn(sentence)
        self.intake = Intake(layout, self.rows, self._files, self._datums, self.warn, self._timeout_s)
        if self.state is RunState.UNUSABLE:
            self._become(RunState.RUNNING, "")
        points = layout.geometry.points
        if points is not None and points != layout.geometry.pixels and not layout.datasets and not layout.geometry.sums:
            self.warn(f"the plan announces {points} points, the map has {layout.geometry.pixels} pixels")
        buffer.update_state({"state": self.state.value})
        self.changed = True
        log.info(
            "run_opened", run=self.uid, shape=layout.geometry.shape, lines=layout.lines, detectors=len(layout.detectors)
        )

    def _open_map(self, start: Start, layout: Layout) -> LiveRun:
        """Make the run of one map of this stack; it shares what is known of files."""
        one = LiveRun(start.run, self._settings, self._profiles, self._detector_files, source=self.source)
        one.start, one._in_stack, one._datums = start, True, self._datums
        one._files = self._files.sharing()
        one._descriptors = self._descriptors
        info = run_info(start, layout, self.source)
        for sentence in admit(info, self._settings):
            one.warn(sentence)
        one._begin(layout, RunBuffer.create(self._settings.runs_dir, info))
        return one

    def _take_data(self, document: Event | EventPage | StreamDatum, pending: Pending, now: float) -> None:
        if self.state is RunState.UNUSABLE:
            return
        descriptor = self._descriptors.get(document.descriptor)
        if descriptor is None:
            self._hold(document, pending, now)
            return
        if descriptor.stream == "interruptions" and isinstance(document, Event):
            paused = document.data.get("interruption") != "resume"  # "pause", or why a suspender tripped
            if not self.state.ended:
                self._become(RunState.PAUSED if paused else RunState.RUNNING, "")
            return
        if self.layout is None and self._candidates:
            self._open_series(descriptor)
        if self.layout is None or not self.layout.reads(descriptor.stream):
            return
        if self.state is RunState.PAUSED:
            self._become(RunState.RUNNING, "")
        self._use(document, pending, now)

    def _open_series(self, descriptor: Descriptor) -> None:
        """Open a run whose keys have streams of their own, by all descriptors that are there."""
        split = [p for p in self._candidates if p.split_streams and p.reads(descriptor.stream)]
        described = [d for d in self._descriptors.values() if any(p.reads(d.stream) for p in split)]
        if described:
            self._open(merge_descriptors(described))

    def _use(self, document: Event | EventPage | StreamDatum, pending: Pending, now: float) -> None:
        if self.stack is not None:
            self.stack.take(document, pending, now)
            return
        assert self.intake is not None and self.rows is not None
        try:
            self.intake.take(document, pending, now)
        except DocumentError as error:
            raise DocumentError(f"run {self.uid}: {error}") from error
        finally:
            if self.stop is not None and self.rows.dirty:
                self._finished = False

    # --- waiting ------------------------------------------------------------------------------------------------

    def _hold(self, document: Document, pending: Pending, now: float) -> None:
        if self.state is RunState.UNUSABLE or self._reused:
            return
        if len(self._held) >= MAX_HELD:
            raise DocumentError(f"run {self.uid}: too many documents wait for their start or descriptor")
        if not self._held:
            self._held_since = now
        pending.retain()
        self._held.append((document, pending))

    def _replay_held(self, now: float, *, guess: bool = False) -> None:
        if not self._held or self.start is None:
            return
        if not guess and not any(self._is_ready(document) for document, _ in self._held):
            return
        held, self._held = self._held, []
        # What gives the others their meaning goes first; a stop goes last.
        rank = {Descriptor: 0, StreamResource: 1, Stop: 3}
        held.sort(key=lambda item: rank.get(type(item[0]), 2))
        for i, (document, pending) in enumerate(held):
            try:
                if guess and isinstance(document, Event | EventPage):
                    self._guess(document, pending, now)
                else:
                    self.take(document, pending, now)
            except DocumentError as error:
                self.set_aside.append((_NAMES[type(document)], str(error)))
            except OSError:
                self._held = held[i:] + self._held
                raise
            pending.release()

    def _is_ready(self, document: Document) -> bool:
        return not isinstance(document, Event | EventPage | StreamDatum) or document.descriptor in self._descriptors

    def _guess(self, document: Event | EventPage, pending: Pending, now: float) -> None:
        """Use events whose descriptor never came: their own keys say enough."""
        if self.layout is None:
            stream = self._candidates[0].profile.stream if self._candidates else "primary"
            self._open(
                Descriptor(
                    uid=document.descriptor,
                    run=self.uid,
                    stream=stream,
                    data_keys={str(key): {} for key in document.data},
                    configuration={},
                )
            )
            self.warn("the descriptor never came; the keys of the events were used")
        assert self.layout is not None
        if self.layout.keys and set(self.layout.keys) <= set(document.data):
            self._use(document, pending, now)

    def turn(self, now: float) -> list[int]:
        """Write what is due, look at files again, end waits; return the rows written.

        Raises
        ------
        OSError
            The disk refuses; call again.
        """
        if self._given_up:
            return []
        if self._held and now - self._held_since > (1.0 if self.start is not None else ORPHAN_S):
            self._give_up_waiting(now)
        if self.intake is not None and self.rows is not None and self.intake.waits:
            self.intake.turn(now)
            self.set_aside += self.intake.set_aside
            self.intake.set_aside.clear()
            if self.stop is not None and self.rows.dirty:
                self._finished = False
        written: list[int] = []
        if self.rows is not None:
            waits = self._held or (self.intake is not None and self.intake.waits)
            over = (self.stop is not None and not waits) or self.state is RunState.STALE
            written = self.rows.flush(now, everything=over)
            self.changed |= bool(written)
        if self.layout is not None and (sentence := judge_spectra(self.layout)):
            self.warn(sentence)
        if self.stop is not None and not self._finished and self.idle:
            self._finish()
        silent = now - self.touched > self._settings.ingest.stale_after.total_seconds()
        if (
            silent
            and self.stop is None
            and self.start is not None
            and self.state in (RunState.RUNNING, RunState.PAUSED)
        ):
            seconds = int(self._settings.ingest.stale_after.total_seconds())
            self._become(RunState.STALE, f"no document for {seconds} s and no stop document")
        return written

    def give_up(self, reason: str) -> None:
        """Stop working on the run; what is not on disk stays unacknowledged, so that a mended ingest gets it again."""
        self._given_up = True
        self._become(RunState.UNUSABLE, f"run {self.uid}: {reason}; its documents are kept until ingest is restarted")

    def _give_up_waiting(self, now: float) -> None:
        if self.start is not None:
            self._replay_held(now, guess=True)
            left = [item for item in self._held if isinstance(item[0], StreamDatum)]
            reason = "stream_datum without its descriptor"
        else:
            left = self._held
            reason = (
                f"run {self.uid}: its start document was not seen, ingest joined in the middle; "
                "let the RunEngine publish to Redis (documents are kept there), or start ingest before the scan"
            )
            self._become(RunState.UNUSABLE, reason)
        if left:
            self.set_aside.append((_NAMES[type(left[0][0])], f"{len(left)} documents given up: {reason}"))
        for _, pending in self._held:
            pending.release()
        self._held = []

    def flush(self) -> list[int]:
        """Write everything that is in hand."""
        return self.rows.flush(time.monotonic(), everything=True) if self.rows is not None else []

    # --- the end ------------------------------------------------------------------------------------------------

    def _take_stop(self, stop: Stop) -> None:
        if self.stop is not None and self.stop != stop:
            raise DocumentError(f"run {self.uid} stopped twice with different documents; the first one is kept")
        self.stop = stop
        self._finished = False

    def _finish(self) -> None:
        assert self.stop is not None
        self._finished = True
        stop = self.stop
        if not self._in_stack:
            self._files.close()
            self._datums.close()
        if self.intake is not None:
            self.intake.end()
        if self.stack is not None:
            self.stack.stop(stop, time.monotonic())
            self._become(stopped_state(stop, missing=False), stop.reason)
            return
        if self.rows is None or self.layout is None:
            if self.state is not RunState.UNUSABLE:
                streams = ", ".join(sorted({d.stream for d in self._descriptors.values()})) or "none"
                wanted = ", ".join(sorted({resolved.profile.stream for resolved in self._candidates}))
                self._become(
                    RunState.UNUSABLE,
                    self._layout_error
                    or f"run {self.uid} ended without counts: stream {wanted} never came; streams that came: {streams}",
                )
            return
        assert self.intake is not None
        end = end_of(stop, self.layout, self.rows, self.intake.frames_per_event)
        for warning in end.warnings:
            self.warn(warning)
        self._become(end.state, end.reason)

    def _become(self, state: RunState, reason: str) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        log.info("run_state", run=self.uid, state=state.value, reason=reason)
        self.state, self.reason, self.changed = state, reason, True
        if self.buffer is not None:
            self.buffer.update_state({"state": state.value, "reason": reason, "warnings": self.warnings})
