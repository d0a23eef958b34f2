"""Which map of a run that holds several (tomography, time series) a data document belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..documents.model import Event, EventPage, Start, StreamDatum
from ..profile.layout import Layout

Data = Event | EventPage | StreamDatum


class MapSplit:
    """Splits the data documents of a run by its maps, which are measured one after the other.

    Parameters
    ----------
    start, layout
        Of the whole run.
    """

    def __init__(self, start: Start, layout: Layout) -> None:
        self._start, self._layout = start, layout
        self.maps = layout.geometry.maps
        self._events_per_map = 0

    def uid(self, number: int) -> str:
        """Return the run uid of a map: that of the run when it holds one map, else ``UID-0000``, ``UID-0001`` ..."""
        return self._start.run if self.maps == 1 else f"{self._start.run}-{number:04d}"

    def start(self, number: int) -> Start:
        """Return the start document of a map."""
        if self.maps == 1:
            return self._start
        uid = self.uid(number)
        stack = {"run": self._start.run, "map": number, "maps": self.maps}
        return replace(self._start, run=uid, doc={**self._start.doc, "uid": uid, "stack": stack})

    def layout(self) -> Layout:
        """Return the layout of one map."""
        if self.maps == 1:
            return self._layout
        return replace(self._layout, geometry=replace(self._layout.geometry, maps=1, points=None))

    def parts(self, document: Data) -> Iterator[tuple[int, Data]]:
        """Yield map numbers and the parts of a document that belong to these maps, numbered within the map."""
        if self.maps == 1:
            yield 0, document
        elif isinstance(document, StreamDatum):
            yield from self._parts_of_datum(document)
        else:
            for event in document.events() if isinstance(document, EventPage) else (document,):
                self._events_per_map = self._events_per_map or self._layout.geometry.pixels // self._frames_in(event)
                number, within = divmod(event.seq_num - 1, self._events_per_map)
                yield number, replace(event, seq_num=within + 1)

    def _parts_of_datum(self, datum: StreamDatum) -> Iterator[tuple[int, StreamDatum]]:
        geometry = self._layout.geometry
        rowwise = any("col" in dataset.axes for _, dataset in self._layout.datasets.values())
        per_index = geometry.shape[1] if rowwise else max(self._layout.per_index.values(), default=1)
        per_map = geometry.pixels // per_index
        first = datum.first
        while first < datum.stop:
            number, within = divmod(datum.seq_num - 1 + first - datum.first, per_map)
            stop = min(datum.stop, first + per_map - within)
            yield number, replace(datum, first=first, stop=stop, seq_num=within + 1)
            first = stop

    def _frames_in(self, event: Event) -> int:
        """Return how many frames an event holds: a pixel, or a row of them."""
        layout = self._layout
        key = layout.keys[0] if layout.keys else layout.array_key
        value: Any = event.data.get(key)
        if isinstance(value, str) or value is None:
            return layout.per_index.get(key, 1)
        inner = (
            (layout.spectra is not None)
            + (2 if not layout.keys else 0)
            - (not layout.keys and layout.spectra is not None)
        )
        shape = [n for n in np.shape(value)[: np.ndim(value) - inner] if n != 1]
        return int(np.prod(shape)) if shape else 1
