"""The maps of one run: a single one, or several measured one after the other, each of which is a run to others."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import DamagedRunError, DocumentError, InputError, NotMeasuredError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings

from ..documents.delivery import Pending
from ..documents.model import Start, Stop
from ..frames.file_frames import FileFrames
from ..frames.legacy_datums import DatumStore
from ..profile.layout import Layout
from .assembly import RunAssembly
from .condition import RunCondition
from .map_split import Data, MapSplit
from .results import Phase, PollResult

log = structlog.get_logger()

KEPT = 2
"""Ended maps that stay in memory behind the one that is being measured."""


class RunMaps:
    """Gives the data documents of a run to its maps, and ends each map when the next one begins.

    Parameters
    ----------
    start, layout
        Of the whole run.
    condition
        Of the whole run; a single map shares it.
    files, datums
        What is announced in files, for all maps.
    settings, source
        As of :class:`RunAssembly`.

    Raises
    ------
    BufferConflictError, InputError
        The only map cannot be opened.
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
        self._split = MapSplit(start, layout)
        self.single = self._split.maps == 1
        """True when the run holds one map, which has the run's own uid and condition."""
        self._condition, self._files, self._datums = condition, files, datums
        self._settings, self._source = settings, source
        self._maps: dict[int, RunAssembly] = {}
        self._newest = -1
        self._stop: Stop | None = None
        self._result = PollResult()
        if self.single:
            self._maps[0] = self._open(0)

    def __iter__(self) -> Iterator[RunAssembly]:
        return iter(list(self._maps.values()))

    @property
    def idle(self) -> bool:
        """True when no map has anything announced or unwritten."""
        return all(assembly.idle for assembly in self._maps.values())

    def handle_data(self, document: Data, pending: Pending, now: float) -> None:
        """Give a document, or its parts, to the maps they belong to.

        Raises
        ------
        DocumentError
            Some of it cannot be used; the rest was.
        OSError
            The disk cannot be read or written; give the document again later.
        """
        if self.single:
            self._maps[0].handle_data(document, pending, now)
            return
        problems: list[DocumentError] = []
        for number, part in self._split.parts(document):
            try:
                self._map(number).handle_data(part, pending, now)
            except DocumentError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def end(self, stop: Stop) -> None:
        """End every map that was begun, by this process or an earlier one."""
        if self._stop is not None:
            return
        for number in range(self._split.maps):
            if number not in self._maps and self._was_begun(number):
                self._maps[number] = self._open(number)
        for assembly in self._maps.values():
            assembly.handle_stop(self._stop_of(assembly.uid, stop))
        self._stop = stop

    def poll(self, now: float, *, more_held: bool) -> PollResult:
        """Poll every map; an internal error in one of them ends no other.

        Raises
        ------
        OSError
            The disk cannot be read or written; call again.
        """
        for number, assembly in list(self._maps.items()):
            if assembly.phase is Phase.ENDED and assembly.idle and number < self._newest - KEPT:
                del self._maps[number]  # its final state was written after an earlier poll
                continue
            try:
                polled = assembly.poll(now, more_held=more_held)
            except OSError:
                raise
            except Exception as error:
                log.exception("run_failed", run=assembly.uid)
                assembly.give_up(f"internal error: {type(error).__name__}: {error}")
                continue
            self._result.extend(polled)
        result, self._result = self._result, PollResult()
        return result

    def drop(self, uid: str) -> bool:
        """Remove a map from memory; False while something of it is not on disk."""
        for number, assembly in list(self._maps.items()):
            if assembly.uid == uid:
                if not assembly.idle:
                    return False
                if not self.single:
                    del self._maps[number]
        return True

    def _map(self, number: int) -> RunAssembly:
        if number not in self._maps:
            self._maps[number] = self._open(number)
        if number > self._newest:
            self._begin(number)
        return self._maps[number]

    def _begin(self, number: int) -> None:
        """End the maps before a new one, those of an earlier process that died between two maps included."""
        for old in range(number - 1, self._newest, -1):
            if old in self._maps:
                continue
            if not self._was_begun(old):
                break
            self._maps[old] = self._open(old)
        for old, assembly in self._maps.items():
            if old < number:
                assembly.handle_stop(self._stop_of(assembly.uid, None))
        self._newest = number

    def _open(self, number: int) -> RunAssembly:
        uid = self._split.uid(number)
        condition = self._condition if self.single else RunCondition(uid)
        try:
            assembly = RunAssembly(
                self._split.start(number),
                self._split.layout(),
                condition,
                self._files.with_same_resources(),
                self._datums,
                self._settings,
                self._source,
            )
        except (InputError, DamagedRunError) as error:
            if self.single:
                raise
            raise DocumentError(str(error)) from error
        if self._stop is not None or number < self._newest:
            assembly.handle_stop(self._stop_of(uid, self._stop))
        return assembly

    def _stop_of(self, uid: str, stop: Stop | None) -> Stop:
        """Return the stop document of a map; None: the run goes on with the next map."""
        if stop is None:
            return Stop(run=uid, time=0.0, exit_status="success", reason="", num_events={})
        if self.single:
            return stop
        return Stop(run=uid, time=stop.time, exit_status=stop.exit_status, reason=stop.reason, num_events={})

    def _was_begun(self, number: int) -> bool:
        """Return whether a map is on disk and not marked as ended."""
        try:
            state = RunBuffer.open(self._settings.runs_dir, self._split.uid(number)).state().get("state", "running")
        except NotMeasuredError:
            return False
        except DamagedRunError:  # opening it mends it
            return True
        return not RunState(state).ended
