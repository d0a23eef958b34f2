"""Counts whose keys come in separate streams, such as monitored time series, are joined by pixel.

SRX monitors ``xs_channel01_mcaroi01_ts_total`` and the like: each signal has a stream ``DONOTSAVE_..._monitor``, whose
event pages hold the new values of the row with ``reset_count`` (the row) and ``index_count`` (the column).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from quietbeam.core.errors import DocumentError

from ..documents.delivery import Pending, Retained
from ..documents.model import Event, EventPage
from ..profile.layout import Layout
from ..profile.sections import IndexSection

MAX_OPEN = 200_000


class SplitStreams:
    """Values by pixel until a pixel has all keys of the layout.

    Parameters
    ----------
    layout
        Of the run; a pixel needs its keys of counts and live times.
    index
        The keys that give row and column.
    """

    def __init__(self, layout: Layout, index: IndexSection) -> None:
        self._keys, self._index = (*layout.keys, *layout.live_time_keys), index
        self._width = layout.geometry.shape[1]
        self._open: dict[int, dict[str, Any]] = {}
        self._documents: dict[int, Retained] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, document: Event | EventPage, pending: Pending) -> Iterator[Event]:
        """Add the values of a document; yield every pixel that is complete now as an event numbered in scan order.

        The pixel and its documents stay here until the caller has put the event in its row and calls :meth:`forget`,
        so that a disk error before that loses nothing.

        Raises
        ------
        DocumentError
            The pixel of an event is missing or wrong, or too many pixels are incomplete.
        """
        for event in document.events() if isinstance(document, EventPage) else [document]:
            pixel = self._pixel(event)
            values = {key: event.data[key] for key in self._keys if key in event.data}
            if not values:
                continue
            if pixel not in self._open and len(self._open) >= MAX_OPEN:
                raise DocumentError(f"event {event.seq_num}: too many pixels wait for values of other streams")
            self._open.setdefault(pixel, {}).update(values)
            self._documents.setdefault(pixel, Retained()).add(pending)
            if len(self._open[pixel]) == len(self._keys):
                yield Event(descriptor=event.descriptor, seq_num=pixel + 1, data=self._open[pixel])

    def forget(self, event: Event, pending: Pending) -> None:
        """Forget a complete pixel; its other documents are acknowledged only after the one that completed it."""
        self._open.pop(event.seq_num - 1, None)
        self._documents.pop(event.seq_num - 1, Retained()).release(follow=pending)

    def _pixel(self, event: Event) -> int:
        """Return the number of the pixel, row by row."""
        try:
            row, col = (int(np.asarray(event.data[key])) for key in (self._index.row, self._index.col))
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(f"event {event.seq_num} does not give its pixel: {error} (counts.index)") from error
        if row < 0 or not 0 <= col < self._width:
            raise DocumentError(
                f"event {event.seq_num}: column {col} of row {row} is outside a row of {self._width} pixels"
            )
        return row * self._width + col

    def give_up(self) -> int:
        """Release the documents of incomplete pixels; return the number of these pixels."""
        n = len(self._open)
        for documents in self._documents.values():
            documents.release()
        self._open.clear()
        self._documents.clear()
        return n
