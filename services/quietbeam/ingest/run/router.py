"""One Bluesky run as ingest sees it: documents in any order go to the maps that the run holds. Knows no Redis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quietbeam.core.errors import DocumentError
from quietbeam.core.model.types import RunState
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
)
from ..frames.detector_files import DetectorFiles
from ..profile.layout import Layout
from ..profile.schema import BeamlineProfile
from .admission import status_without_map
from .assembly import RunAssembly
from .condition import RunCondition
from .final_state import stopped_state
from .held import HeldDocuments
from .map_split import Data
from .maps import RunMaps
from .opening import RunOpening
from .results import Phase, PollResult, Refused, RowsWritten

ORPHAN_S = 5.0
"""How long documents are held for their start document."""
DESCRIPTOR_S = 1.0
"""How long documents are held for their descriptor once the start document is there."""


class RunRouter:
    """Gives the documents of a run to its maps: one map is one :class:`RunAssembly`, N maps are N of them.

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
        self.uid, self.source = uid, source
        self._stale_after_s = settings.ingest.stale_after.total_seconds()
        self.phase = Phase.AWAITING_START
        self.condition = RunCondition(uid)
        self.stop: Stop | None = None
        self._opening = RunOpening(uid, settings, profiles, files, self.condition, source)
        self._definition = self._opening.definition
        self._held = HeldDocuments(uid)
        self._refused: list[Refused] = []

    @property
    def layout(self) -> Layout | None:
        """Where the counts are; None before that is known."""
        return self._opening.layout

    @property
    def maps(self) -> RunMaps | None:
        """The maps of the run; None before the first."""
        return self._opening.maps

    @property
    def info(self) -> None:
        """Nothing is known of a run before its map is there."""

    @property
    def time_start(self) -> float | None:
        """Time of the start document, or None before it."""
        start = self._definition.start
        return start.time if start is not None else None

    @property
    def assembly(self) -> RunAssembly | None:
        """The only map, or None when there is none yet or there are several."""
        return next(iter(self.maps)) if self.maps is not None and self.maps.single else None

    @property
    def holds_several_maps(self) -> bool:
        """True when each map is a run to others, and this run is not."""
        if self.maps is not None:
            return not self.maps.single
        return self._definition.several_maps

    @property
    def descriptors(self) -> list[Descriptor]:
        """The descriptors that came."""
        return list(self._definition.descriptors.values())

    @property
    def idle(self) -> bool:
        """True when nothing is held, announced or unwritten."""
        return not len(self._held) and (self.maps is None or self.maps.idle)

    def reported(self) -> Iterator[RunRouter | RunAssembly]:
        """Yield the runs that others see: the run itself, or its maps."""
        if self.maps is not None:
            yield from self.maps
        if self.maps is None or not self.maps.single:
            unusable = self.condition.state is RunState.UNUSABLE
            if unusable or (self.phase is not Phase.AWAITING_START and not self.holds_several_maps):
                yield self

    def status(self) -> dict[str, Any]:
        """Return the fields of the run's hash that ingest writes, as long as the run has no map."""
        return status_without_map(self._definition.start, self.stop, self.condition)

    def handle_document(self, document: Document, pending: Pending, now: float) -> None:
        """Use one document, or hold it until it can be used.

        Raises
        ------
        DocumentError
            It cannot be used; the run goes on.
        OSError
            The disk cannot be read or written; give the document again later.
        """
        self.condition.document_came(now)
        if self.phase is Phase.GIVEN_UP:
            pending.retain()  # never released: ingest gets it again when it has been mended and restarted
            return
        if isinstance(document, Start):
            if self._opening.handle_start(document):
                self.phase = Phase.AWAITING_DESCRIPTOR
        elif self.phase is Phase.AWAITING_START:
            self._hold(document, pending, now)
        else:
            self._handle_begun(document, pending, now)
        if self.phase is not Phase.AWAITING_START and self._held.any_usable(self._definition.descriptors):
            self._replay_held(now)

    def _handle_begun(self, document: Document, pending: Pending, now: float) -> None:
        """Use a document of a run whose start document is there."""
        match document:
            case Event() | EventPage() | StreamDatum():
                self._handle_data(document, pending, now)
            case Descriptor():
                self._opening.handle_descriptor(document)
                if self.maps is not None and self.phase is Phase.AWAITING_DESCRIPTOR:
                    self.phase = Phase.OPEN
            case StreamResource():
                self._opening.files.add_resource(document)
            case Resource():
                self._opening.datums.add_resource(document)
            case Stop():
                self._handle_stop(document)
            case Datums():
                if self.maps is not None or self.condition.state is not RunState.UNUSABLE:
                    self._opening.datums.add_datums(document, pending)

    def _handle_stop(self, stop: Stop) -> None:
        if self.stop is not None and self.stop != stop:
            raise DocumentError(f"run {self.uid} stopped twice with different documents; the first one is kept")
        self.stop = stop
        self.condition.mark_changed()

    def _handle_data(self, document: Data, pending: Pending, now: float) -> None:
        if self.maps is None and self.condition.state is RunState.UNUSABLE:
            return
        descriptor = self._definition.descriptors.get(document.descriptor)
        if descriptor is None:
            self._hold(document, pending, now)
            return
        if descriptor.stream == "interruptions" and isinstance(document, Event):
            self.condition.interrupted(resumed=document.data.get("interruption") == "resume")
            return
        self._opening.handle_first_data(descriptor)
        if self.layout is not None and self.layout.reads(descriptor.stream):
            if self.condition.state is RunState.PAUSED:
                self.condition.become(RunState.RUNNING)
            self._give_to_maps(document, pending, now)

    def _give_to_maps(self, document: Data, pending: Pending, now: float) -> None:
        assert self.maps is not None
        self.phase = Phase.OPEN
        self.maps.handle_data(document, pending, now)

    def _hold(self, document: Document, pending: Pending, now: float) -> None:
        if (self.maps is None and self.condition.state is RunState.UNUSABLE) or self._definition.uid_reused:
            return
        self._held.hold(document, pending, now)

    def _replay_held(self, now: float, *, without_descriptor: bool = False) -> None:
        def handle(document: Document, pending: Pending) -> None:
            if without_descriptor and isinstance(document, Event | EventPage):
                self._handle_without_descriptor(document, pending, now)
            else:
                self.handle_document(document, pending, now)

        for refused in self._held.replay(handle):
            self._refused.append(refused)

    def _handle_without_descriptor(self, document: Event | EventPage, pending: Pending, now: float) -> None:
        """Use events whose descriptor never came by their own keys."""
        self._opening.open_without_descriptor(document)
        assert self.layout is not None
        if self.layout.keys and set(self.layout.keys) <= set(document.data):
            self._give_to_maps(document, pending, now)

    def _give_up_held(self, now: float) -> None:
        if self.phase is not Phase.AWAITING_START:
            self._replay_held(now, without_descriptor=True)
            self._refused += self._held.give_up("stream_datum without its descriptor")
            return
        reason = (
            f"run {self.uid}: no start document was received, because ingest started after the scan began; "
            "let the RunEngine publish to Redis (documents are kept there), or start ingest before the scan"
        )
        self.condition.become(RunState.UNUSABLE, reason)
        self._refused += self._held.give_up(reason)

    def count_refused(self, refused: Refused) -> None:
        """Count a refused document in the condition of the run, or of its map."""
        conditions = {assembly.uid: assembly.condition for assembly in self.maps or ()}
        conditions.get(refused.run, self.condition).count_refused(refused.reason)

    def poll(self, now: float) -> PollResult:
        """Write what is due, look at files again, give up what was held too long, end the run.

        Parameters
        ----------
        now
            Monotonic time.

        Raises
        ------
        OSError
            The disk cannot be read or written; call again.
        """
        if self.phase is Phase.GIVEN_UP:
            return PollResult()
        if self._held.held_s(now) > (ORPHAN_S if self.phase is Phase.AWAITING_START else DESCRIPTOR_S):
            self._give_up_held(now)
        result = PollResult()
        if self.maps is not None:
            held = bool(len(self._held))
            if self.stop is not None and not held:
                self.maps.end(self.stop)
            result.extend(self.maps.poll(now, more_held=held))
        if self.stop is not None and self.phase is not Phase.ENDED and self.idle:
            self._end()
        if self.stop is None and self.phase is not Phase.AWAITING_START:
            self.condition.check_silence(now, self._stale_after_s)
        result.refused.extend(self._refused)
        self._refused.clear()
        return result

    def flush(self) -> list[RowsWritten]:
        """Write everything that is in memory.

        Raises
        ------
        OSError
            The disk cannot be written; call again.
        """
        return [rows for assembly in self.maps or () for rows in assembly.flush()]

    def take_writes(self) -> Iterator[Path]:
        """Yield the files that were written since the last call and may not be on disk yet."""
        for assembly in self.maps or ():
            yield from assembly.take_writes()

    def end_writing(self) -> None:
        """Everything is on disk, and the run leaves memory."""
        for assembly in self.maps or ():
            assembly.buffer.end_writing()

    def give_up(self, reason: str) -> None:
        """Stop working on the run; its documents stay unacknowledged, so that a mended ingest gets them again."""
        reason = f"run {self.uid}: {reason}; its documents are kept until ingest is restarted"
        self.condition.become(RunState.UNUSABLE, reason)
        self.phase = Phase.GIVEN_UP

    def _end(self) -> None:
        assert self.stop is not None
        without_map = self._opening.close()
        if without_map and self.condition.state is not RunState.UNUSABLE:
            self.condition.become(RunState.UNUSABLE, without_map)
        elif self.maps is not None and not self.maps.single:
            self.condition.become(stopped_state(self.stop, missing=False), self.stop.reason)
        self.phase = Phase.ENDED
