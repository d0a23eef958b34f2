"""Documents that came before the start or descriptor document that they need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from quietbeam.core.errors import DocumentError

from ..documents.delivery import Pending
from ..documents.model import (
    Datums,
    Descriptor,
    Document,
    Event,
    EventPage,
    Resource,
    Stop,
    StreamDatum,
    StreamResource,
)
from .results import Refused

MAX_HELD = 20_000
MAX_HELD_BYTES = 128 * 2**20
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
_ORDER = {Descriptor: 0, StreamResource: 1, Stop: 3}
"""Documents that explain others are replayed first, the stop document last."""


class HeldDocuments:
    """Holds documents of one run, unacknowledged, until they can be used or are given up."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._documents: list[tuple[Document, Pending]] = []
        self._since = 0.0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._documents)

    def hold(self, document: Document, pending: Pending, now: float) -> None:
        """Hold a document.

        Raises
        ------
        DocumentError
            Too many are held.
        """
        if len(self._documents) >= MAX_HELD or (self._documents and self._bytes + pending.size > MAX_HELD_BYTES):
            raise DocumentError(f"run {self._run}: too many documents wait for their start or descriptor")
        if not self._documents:
            self._since = now
        pending.retain()
        self._documents.append((document, pending))
        self._bytes += pending.size

    def held_s(self, now: float) -> float:
        """Return for how many seconds the first document has been held; 0 when none is."""
        return now - self._since if self._documents else 0.0

    def any_usable(self, descriptors: Collection[str]) -> bool:
        """Return whether a document can be used now, with these descriptors known."""
        return any(
            not isinstance(document, Event | EventPage | StreamDatum) or document.descriptor in descriptors
            for document, _ in self._documents
        )

    def replay(self, handle: Callable[[Document, Pending], None]) -> Iterator[Refused]:
        """Give every document to `handle`, which may hold it again; yield those that cannot be used.

        Raises
        ------
        OSError
            From `handle`; the document and those after it are still held.
        """
        documents, self._documents, self._bytes = self._documents, [], 0
        documents.sort(key=lambda item: _ORDER.get(type(item[0]), 2))
        for i, (document, pending) in enumerate(documents):
            try:
                handle(document, pending)
            except DocumentError as error:
                yield Refused(self._run, _NAMES[type(document)], str(error))
            except OSError:
                self._documents = documents[i:] + self._documents
                self._bytes = sum(held.size for _, held in self._documents)
                raise
            pending.release()

    def give_up(self, reason: str) -> list[Refused]:
        """Release every document; return one entry for all of them."""
        documents, self._documents, self._bytes = self._documents, [], 0
        for _, pending in documents:
            pending.release()
        if not documents:
            return []
        return [Refused(self._run, _NAMES[type(documents[0][0])], f"{len(documents)} documents given up: {reason}")]
