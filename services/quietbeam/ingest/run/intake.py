"""Documents that bring data: from what an Event, a datum or a file holds to frames at their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from quietbeam.core.errors import DataNotReadyError, DocumentError

from ..documents.delivery import Pending
from ..documents.model import Event, EventPage, StreamDatum
from ..frames.event_values import frames_of
from ..frames.file_frames import FileFrames
from ..frames.legacy_datums import DatumStore
from ..frames.split_streams import Series
from ..frames.values import Frames
from ..profile.layout import Layout
from ..rows.assembler import RowAssembler
from ..rows.grid import GridAssembler
from .results import Refused

Warn = Callable[[str, int], None]


@dataclass(slots=True)
class _Waiting:
    event: Event
    pending: Pending
    deadline: float


class Intake:
    """Puts the frames of one run where they belong; what is in files is waited for without holding up the rest.

    Parameters
    ----------
    layout, rows
        How counts are found and where rows are made.
    files, datums
        What is announced in files: stream documents, and old-style datums.
    warn
        Takes a sentence and how many times it is true.
    timeout_s
        How long announced data may be missing.
    """

    def __init__(
        self,
        layout: Layout,
        rows: RowAssembler | GridAssembler,
        files: FileFrames,
        datums: DatumStore,
        warn: Warn,
        timeout_s: float,
    ) -> None:
        self._layout, self._rows, self._files, self._datums = layout, rows, files, datums
        self._warn, self._timeout_s = warn, timeout_s
        self._series = Series(layout, layout.index) if layout.index is not None else None
        self._waiting: list[_Waiting] = []
        self.frames_per_event = 1
        self._refused: list[Refused] = []

    @property
    def waits(self) -> bool:
        """True when something announced is not yet read."""
        return bool(self._waiting or self._files)

    def handle_document(self, document: Event | EventPage | StreamDatum, pending: Pending, now: float) -> None:
        """Use one document.

        Raises
        ------
        DocumentError
            Some of it cannot be used; the rest was.
        """
        if isinstance(document, StreamDatum):
            self._files.announce(document, pending, now)
            return
        problems: list[str] = []
        if self._series is not None:
            try:
                for event in self._series.add(document, pending):
                    self._event(event, pending, now, problems)
                    self._series.placed(event, pending)
            except DocumentError as error:
                problems.append(str(error))
        else:
            for event in document.events() if isinstance(document, EventPage) else (document,):
                self._datums.bind(event.data, pending)
                self._event(event, pending, now, problems)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise DocumentError(f"{problems[0]}{more}")

    def _event(self, event: Event, pending: Pending, now: float, problems: list[str]) -> None:
        try:
            self._use(event, pending, now)
        except DataNotReadyError:
            pending.retain()
            self._waiting.append(_Waiting(event, pending, now + self._timeout_s))
        except DocumentError as error:
            problems.append(str(error))

    def _use(self, event: Event, pending: Pending, now: float) -> None:
        behind = {
            key: uid
            for key in self._layout.event_keys
            if isinstance(uid := event.data.get(key), str) and (key in self._layout.external or uid in self._datums)
        }
        if behind:
            there = {key: self._datums.read(uid) for key, uid in behind.items()}
            event = replace(event, data={**event.data, **there})
        frames = frames_of(self._layout, event)
        n = len(frames.good)
        if not n:
            return
        try:
            stride = self._rows.stride(n)
        except DocumentError as error:
            raise DocumentError(f"event {event.seq_num}: {error}") from error
        gridded = self._layout.geometry.gridded
        if n > stride:
            frames = frames.part(0, stride)
            self._warn(f"a row had more frames than the {stride} pixels of the map; the last ones were left out", 1)
        elif n < stride and n > 1 and not gridded:
            self._warn(f"a row had fewer frames than the {stride} pixels of the map; the rest is not measured", 1)
        self.frames_per_event = n if gridded else stride
        self.put((event.seq_num - 1) * stride, frames, pending, f"event {event.seq_num}", now=now)

    def put(self, index: int, frames: Frames, pending: Pending, where: str, *, now: float) -> None:
        """Put frames in their rows; those that cannot be used are not measured.

        Raises
        ------
        DocumentError
            Some cannot be used; the others are in their rows.
        """
        self._rows.put(index, frames, pending, now)
        if frames.problems:
            for reason, n in frames.problems.items():
                self._warn(f"frames with {reason} are not measured", n)
            raise DocumentError(f"{where} (pixel {index}): {', '.join(frames.problems)}; not measured")

    def _put_masked(self, index: int, frames: Frames, pending: Pending, where: str, *, now: float) -> None:
        try:
            self.put(index, frames, pending, where, now=now)
        except DocumentError as error:
            if not frames.problems:
                raise
            self._refused.append(Refused("stream_datum", str(error)))

    def poll(self, now: float) -> list[Refused]:
        """Look at the files again; return the documents whose data did not come in time or cannot be used.

        Raises
        ------
        OSError
            The disk cannot be read or written; call again.
        """
        if self._files:

            def put(index: int, frames: Frames, pending: Pending, where: str) -> None:
                self._put_masked(index, frames, pending, where, now=now)

            problems = self._files.turn(self._layout, put, now)
            self._refused += [Refused("stream_datum", problem) for problem in problems]
        waiting, self._waiting = self._waiting, []
        for i, item in enumerate(waiting):
            try:
                self._use(item.event, item.pending, now)
            except DataNotReadyError as error:
                if now < item.deadline:
                    self._waiting.append(item)
                    continue
                reason = f"event {item.event.seq_num}: {error}; waited {self._timeout_s:g} s (ingest.file_timeout)"
                self._refused.append(Refused("event", reason))
            except DocumentError as error:
                self._refused.append(Refused("event", str(error)))
            except OSError:
                self._waiting += waiting[i:]
                raise
            item.pending.release()
        refused, self._refused = self._refused, []
        return refused

    def end(self) -> None:
        """No more documents: release what waits for others."""
        lost = self._series.give_up() if self._series is not None else 0
        if lost:
            self._warn(f"{lost} pixels lack some of their series and are not measured", 1)
