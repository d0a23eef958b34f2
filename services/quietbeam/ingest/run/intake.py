"""Data documents become frames in their rows: from Events, from old-style datums, from files that are still growing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quietbeam.core.errors import DataNotReadyError, DocumentError

from ..documents.delivery import Pending
from ..documents.model import Event, EventPage, StreamDatum
from ..frames.event_values import frames_of
from ..frames.file_frames import FileFrames
from ..frames.legacy_datums import DatumStore
from ..frames.split_streams import SplitStreams
from ..frames.values import Frames
from ..profile.layout import Layout
from ..rows.choose import Assembler
from .condition import RunCondition
from .results import Refused


@dataclass(slots=True)
class _EventWithoutData:
    """An Event whose datum, or the file that the datum means, has not come."""

    event: Event
    pending: Pending
    deadline: float


class Intake:
    """Puts the frames of one map in their rows; missing files delay only the documents that announce them.

    Parameters
    ----------
    layout, rows
        How counts are found and where rows are made.
    files, datums
        What is announced in files: stream documents, and old-style datums.
    condition
        Where warnings go.
    timeout_s
        How long announced data may be missing.
    """

    def __init__(
        self,
        layout: Layout,
        rows: Assembler,
        files: FileFrames,
        datums: DatumStore,
        condition: RunCondition,
        timeout_s: float,
    ) -> None:
        self._layout, self._rows, self._files, self._datums = layout, rows, files, datums
        self._condition, self._timeout_s = condition, timeout_s
        self._split = SplitStreams(layout, layout.index) if layout.index is not None else None
        self._without_data: list[_EventWithoutData] = []
        self._refused: list[Refused] = []
        self.frames_per_event = 1

    @property
    def awaits_data(self) -> bool:
        """True when something announced is not yet read."""
        return bool(self._without_data or self._files)

    def handle_document(self, document: Event | EventPage | StreamDatum, pending: Pending, now: float) -> None:
        """Use one document.

        Raises
        ------
        DocumentError
            Some of it cannot be used; the rest was.
        OSError
            The disk cannot be read or written; give the document again later.
        """
        if isinstance(document, StreamDatum):
            self._files.announce(document, pending, now)
            return
        problems: list[str] = []
        if self._split is not None:
            try:
                for event in self._split.add(document, pending):
                    self._handle_event(event, pending, now, problems)
                    self._split.forget(event, pending)
            except DocumentError as error:
                problems.append(str(error))
        elif isinstance(document, EventPage):
            if len(document.seq_nums) > 1 and set(self._layout.event_keys).isdisjoint(document.data):
                raise DocumentError(f"event_page: none of its {len(document.seq_nums)} events holds a value of the map")
            for event in document.events():
                self._handle_event(event, pending, now, problems)
        else:
            self._handle_event(document, pending, now, problems)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise DocumentError(f"{problems[0]}{more}")

    def _handle_event(self, event: Event, pending: Pending, now: float, problems: list[str]) -> None:
        try:
            self._place_event(event, pending, now)
        except DataNotReadyError:
            pending.retain()
            self._without_data.append(_EventWithoutData(event, pending, now + self._timeout_s))
        except DocumentError as error:
            problems.append(str(error))

    def _place_event(self, event: Event, pending: Pending, now: float) -> None:
        """Put the frames of an Event in their rows.

        Raises
        ------
        DataNotReadyError
            Its data are in a file, and not yet there.
        DocumentError
            It cannot be used, or some of its frames cannot; the others were.
        """
        self._datums.bind(event.data, pending)
        datums = {
            key: uid
            for key in self._layout.event_keys
            if isinstance(uid := event.data.get(key), str) and (key in self._layout.external or uid in self._datums)
        }
        if datums:
            values = {key: self._datums.read(uid) for key, uid in datums.items()}
            event = replace(event, data={**event.data, **values})
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
            self._condition.warn(
                f"a row had more frames than the {stride} pixels of the map; the last ones were left out"
            )
        elif n < stride and n > 1 and not gridded:
            self._condition.warn(
                f"a row had fewer frames than the {stride} pixels of the map; the rest is not measured"
            )
        self.frames_per_event = n if gridded else stride
        index = (event.seq_num - 1) * stride
        problems = self._rows.put(index, frames, pending, now)
        if problems:
            raise DocumentError(self._mask_problem(f"event {event.seq_num}", index, problems))

    def _mask_problem(self, subject: str, index: int, problems: Mapping[str, int]) -> str:
        """Count the frames that are not measured and return why they are not."""
        for reason, n in problems.items():
            self._condition.warn(f"frames with {reason} are not measured", n)
        return f"{subject} (pixel {index}): {', '.join(problems)}; not measured"

    def poll(self, now: float) -> list[Refused]:
        """Look at the files again; return the documents whose data did not come in time or cannot be used.

        Raises
        ------
        OSError
            The disk cannot be read or written; call again.
        """
        if self._files:
            self._poll_files(now)
        events, self._without_data = self._without_data, []
        for i, item in enumerate(events):
            try:
                self._place_event(item.event, item.pending, now)
            except DataNotReadyError as error:
                if now < item.deadline:
                    self._without_data.append(item)
                    continue
                waited = f"waited {self._timeout_s:g} s (ingest.file_timeout)"
                self._refuse("event", f"event {item.event.seq_num}: {error}; {waited}")
            except DocumentError as error:
                self._refuse("event", str(error))
            except OSError:
                self._without_data += events[i:]
                raise
            item.pending.release()
        refused, self._refused = self._refused, []
        return refused

    def _poll_files(self, now: float) -> None:
        def put(index: int, frames: Frames, pending: Pending, subject: str) -> None:
            if problems := self._rows.put(index, frames, pending, now):
                self._refuse("stream_datum", self._mask_problem(subject, index, problems))

        for problem in self._files.poll(self._layout, put, now):
            self._refuse("stream_datum", problem)

    def _refuse(self, name: str, reason: str) -> None:
        self._refused.append(Refused(self._condition.uid, name, reason))

    def end(self) -> None:
        """Release the documents of pixels that lack a part: no more documents will come."""
        lost = self._split.give_up() if self._split is not None else 0
        if lost:
            self._condition.warn(f"{lost} pixels lack some of their series and are not measured")
