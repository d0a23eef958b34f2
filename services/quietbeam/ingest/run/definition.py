"""What the start and descriptor documents of a run say: which beamline profiles fit, and where the counts are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quietbeam.core import codec
from quietbeam.core.errors import DocumentError

from ..documents.model import Descriptor, Event, EventPage, Start, merge_descriptors
from ..profile.layout import Layout, layout_of
from ..profile.resolve import ResolvedProfile, choose
from ..profile.schema import BeamlineProfile


class RunDefinition:
    """Start document, descriptors and the profiles that fit them.

    Parameters
    ----------
    run
        Run uid.
    profiles
        Beamline profiles in the order in which they are tried.
    """

    def __init__(self, run: str, profiles: Sequence[BeamlineProfile]) -> None:
        self._run, self._profiles = run, profiles
        self.start: Start | None = None
        self.descriptors: dict[str, Descriptor] = {}
        """By uid."""
        self.uid_reused = False
        """True when a second run came with the same uid."""
        self._fitting: list[ResolvedProfile] = []

    @property
    def several_maps(self) -> bool:
        """True when a fitting profile finds more than one map in the run."""
        return any(resolved.geometry.maps > 1 for resolved in self._fitting)

    def is_repeated(self, start: Start) -> bool:
        """Return whether this start document came before.

        Raises
        ------
        DocumentError
            Another start document came before: a second run uses the same uid.
        """
        if self.start is None:
            return False
        if codec.pack(self.start.doc) != codec.pack(start.doc):
            self.uid_reused = True
            raise DocumentError(
                f"run {self._run} started twice with different documents: the first run is kept, give each its uid"
            )
        return True

    def begin(self, start: Start) -> None:
        """Find the profiles that fit a start document.

        Raises
        ------
        ProfileError
            None fits.
        """
        self.start = start
        self._fitting = choose(self._profiles, start)

    def add(self, descriptor: Descriptor) -> None:
        """Remember a descriptor."""
        self.descriptors[descriptor.uid] = descriptor

    def has_counts(self, descriptor: Descriptor) -> bool:
        """Return whether the counts, all of them, are in the stream of this descriptor."""
        reading = [resolved for resolved in self._fitting if resolved.reads(descriptor.stream)]
        return bool(reading) and not all(resolved.split_streams for resolved in reading)

    def split_streams(self, descriptor: Descriptor) -> Descriptor | None:
        """Return the descriptors of a run whose keys have streams of their own as one, None for other runs."""
        split = [p for p in self._fitting if p.split_streams and p.reads(descriptor.stream)]
        found = [d for d in self.descriptors.values() if any(resolved.reads(d.stream) for resolved in split)]
        return merge_descriptors(found) if found else None

    def descriptor_of(self, document: Event | EventPage) -> Descriptor:
        """Return a descriptor made of the keys of an Event, where its own never came."""
        stream = self._fitting[0].profile.stream if self._fitting else "primary"
        keys: dict[str, dict[str, Any]] = {str(key): {} for key in document.data}
        return Descriptor(uid=document.descriptor, run=self._run, stream=stream, data_keys=keys, configuration={})

    def layout(self, descriptor: Descriptor) -> Layout:
        """Return where the counts are.

        Raises
        ------
        ProfileError
            No profile finds counts in this descriptor.
        """
        return layout_of(self._fitting, descriptor)

    def no_counts(self) -> str:
        """Return a sentence for a run that ended before its counts were found."""
        streams = ", ".join(sorted({descriptor.stream for descriptor in self.descriptors.values()})) or "none"
        wanted = ", ".join(sorted({resolved.profile.stream for resolved in self._fitting}))
        return f"run {self._run} ended without counts: stream {wanted} never came; streams that came: {streams}"
