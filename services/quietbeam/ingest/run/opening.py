"""Opens the maps of a run as soon as its documents say where the counts are."""

from __future__ import annotations

from collections.abc import Sequence

from quietbeam.core.errors import BufferConflictError, DamagedRunError, DocumentError, InputError, ProfileError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings

from ..documents.model import Descriptor, Event, EventPage, Start
from ..frames.detector_files import DetectorFiles
from ..frames.file_frames import FileFrames
from ..frames.legacy_datums import DatumStore
from ..profile.layout import Layout
from ..profile.schema import BeamlineProfile
from .condition import RunCondition
from .definition import RunDefinition
from .maps import RunMaps


class RunOpening:
    """What is known of a run before it has maps, and how it gets them.

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
    condition
        Of the run; becomes unusable where the counts are not found.
    source
        Transport, for the provenance.

    Attributes
    ----------
    definition
        Start document and descriptors.
    files, datums
        Announced files of the run.
    layout, maps
        Where the counts are, and the maps they go to; None before.
    """

    def __init__(
        self,
        uid: str,
        settings: Settings,
        profiles: Sequence[BeamlineProfile],
        files: DetectorFiles,
        condition: RunCondition,
        source: str,
    ) -> None:
        self._uid, self._settings, self._condition, self._source = uid, settings, condition, source
        self.definition = RunDefinition(uid, profiles)
        self.files = FileFrames(files, settings.ingest.file_timeout.total_seconds())
        self.datums = DatumStore(files)
        self.layout: Layout | None = None
        self.maps: RunMaps | None = None
        self._error = ""

    def handle_start(self, start: Start) -> bool:
        """Find the profiles that fit the start document; False when it came before.

        Raises
        ------
        DocumentError
            A second run uses the same uid.
        """
        try:
            if self.definition.is_repeated(start):
                return False
        except DocumentError as error:
            self._condition.warn(str(error))
            raise
        if self._condition.state is RunState.UNUSABLE:
            self._condition.warn("documents that came before the start document were given up")
            self._condition.become(RunState.RUNNING)
        try:
            self.definition.begin(start)
        except ProfileError as error:
            self._condition.become(RunState.UNUSABLE, str(error))
        self._condition.mark_changed()
        return True

    def handle_descriptor(self, descriptor: Descriptor) -> None:
        """Remember a descriptor; open the maps if it says where the counts are.

        Raises
        ------
        DocumentError
            The counts cannot be used, or the descriptor is of a second run with the same uid.
        """
        if descriptor.uid in self.definition.descriptors:
            return
        if self.definition.uid_reused:
            raise DocumentError(f"run {self._uid}: its uid was used twice; documents of the second run are refused")
        if self.maps is None and self.definition.has_counts(descriptor):
            try:
                self._open(descriptor)
            except DocumentError:
                self.definition.add(descriptor)
                raise
        self.definition.add(descriptor)

    def handle_first_data(self, descriptor: Descriptor) -> None:
        """Open the maps of a run whose keys have streams of their own: by then all descriptors are there."""
        if self.maps is None and (merged := self.definition.split_streams(descriptor)) is not None:
            self._open(merged)

    def open_without_descriptor(self, document: Event | EventPage) -> None:
        """Open the maps by the keys of an Event whose descriptor never came."""
        if self.maps is None:
            self._open(self.definition.descriptor_of(document))
            self._condition.warn("the descriptor never came; the keys of the events were used")

    def close(self) -> str:
        """Give up announced files; return why the run has no map, as a sentence, where it has none."""
        self.files.close()
        self.datums.close()
        return "" if self.maps is not None else self._error or self.definition.no_counts()

    def _open(self, descriptor: Descriptor) -> None:
        start = self.definition.start
        assert start is not None
        try:
            layout = self.definition.layout(descriptor)
            maps = RunMaps(start, layout, self._condition, self.files, self.datums, self._settings, self._source)
        except (ProfileError, BufferConflictError, DamagedRunError, InputError) as error:
            self._error = str(error)
            self._condition.become(RunState.UNUSABLE, str(error))
            raise DocumentError(str(error)) from error
        self.layout, self.maps = layout, maps
        if self._condition.state is RunState.UNUSABLE:
            self._condition.become(RunState.RUNNING)
