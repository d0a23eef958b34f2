"""A run that holds several maps (tomography, time series): each is a run of its own, ``UID-0000``, ``UID-0001`` ..."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.types import RunState

from ..documents.delivery import Pending
from ..documents.model import Event, EventPage, Start, Stop, StreamDatum
from ..profile.layout import Layout

if TYPE_CHECKING:
    from .assembly import LiveRun

KEPT = 2
"""Maps that stay in memory behind the one that is being measured."""


class Stack:
    """Deals the documents of a run out to its maps.

    Parameters
    ----------
    start, layout
        Of the whole run.
    open_map
        Makes the run of a map: takes its start document and its layout.
    runs_dir
        Where buffers are: maps that an earlier process began are ended too.
    """

    def __init__(
        self,
        start: Start,
        layout: Layout,
        open_map: Callable[[Start, Layout], LiveRun],
        runs_dir: Path,
    ) -> None:
        self._start, self._layout, self._open_map, self._runs_dir = start, layout, open_map, runs_dir
        self._maps: dict[int, LiveRun] = {}
        self._per_map = 0
        self._newest = -1
        self.touched: dict[str, LiveRun] = {}
        """Maps that got something since the service last looked."""

    def uid(self, number: int) -> str:
        """Return the run uid of a map."""
        return f"{self._start.run}-{number:04d}"

    def take(self, document: Event | EventPage | StreamDatum, pending: Pending, now: float) -> None:
        """Give a data document, or its parts, to the maps they belong to."""
        if isinstance(document, StreamDatum):
            self._take_datum(document, pending, now)
            return
        events = document.events() if isinstance(document, EventPage) else [document]
        for event in events:
            self._per_map = self._per_map or self._layout.geometry.pixels // self._frames_in(event)
            number, within = divmod(event.seq_num - 1, self._per_map)
            self._map(number, now).take(replace(event, seq_num=within + 1), pending, now)

    def _take_datum(self, datum: StreamDatum, pending: Pending, now: float) -> None:
        geometry = self._layout.geometry
        rowwise = any("col" in dataset.axes for _, dataset in self._layout.datasets.values())
        per_index = geometry.shape[1] if rowwise else max(self._layout.per_index.values(), default=1)
        per_map = geometry.pixels // per_index
        first = datum.first
        while first < datum.stop:
            number, within = divmod(datum.seq_num - 1 + first - datum.first, per_map)
            stop = min(datum.stop, first + per_map - within)
            part = replace(datum, first=first, stop=stop, seq_num=within + 1)
            self._map(number, now).take(part, pending, now)
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

    def _map(self, number: int, now: float) -> LiveRun:
        if number not in self._maps:
            doc = {
                **self._start.doc,
                "uid": self.uid(number),
                "stack": {"run": self._start.run, "map": number, "maps": self._layout.geometry.maps},
            }
            geometry = replace(self._layout.geometry, maps=1, points=None)
            start = replace(self._start, run=self.uid(number), doc=doc)
            self._maps[number] = self._open_map(start, replace(self._layout, geometry=geometry))
        if number > self._newest:
            before, self._newest = self._newest, number
            for old in range(number - 1, before, -1):  # begun by an earlier process, which died between two maps
                if old not in self._maps and not self._was_begun(self.uid(old)):
                    break
                self._map(old, now)
            for old in [n for n in self._maps if n < number]:
                self._end(old, Stop(run=self.uid(old), time=0.0, exit_status="success", reason="", num_events={}), now)
        for old in [n for n in self._maps if n < self._newest - KEPT and n != number]:
            del self._maps[old]
        self.touched[self.uid(number)] = self._maps[number]
        return self._maps[number]

    def _end(self, number: int, stop: Stop, now: float) -> None:
        one = self._maps[number]
        if one.stop is None:
            one.take(stop, Pending(0, b""), now)
            self.touched[one.uid] = one

    def stop(self, stop: Stop, now: float) -> None:
        """The run ended: so do its maps."""
        for number in range(self._layout.geometry.maps):
            if number not in self._maps and self._was_begun(self.uid(number)):
                self._map(number, now)
        for number in list(self._maps):
            self._end(number, replace(stop, run=self.uid(number), num_events={}), now)

    def _was_begun(self, uid: str) -> bool:
        """Return whether a map is on disk and was not said to be over."""
        try:
            state = RunBuffer.open(self._runs_dir, uid).state().get("state", "running")
        except NotMeasuredError:
            return False
        return not RunState(state).ended
