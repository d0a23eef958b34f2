"""When rows that wait are served: in groups, so that serving them leaves most of the time for evidence and learning.

The maps of a new row are made of a strip of rows around it. Several rows at once cost hardly more than one.
"""

from __future__ import annotations

import time

PAUSE = 3.0
"""Pause after rows were served, in units of the time that it took."""
LONGEST_S = 0.45
"""Longest pause: a row is shown within a second."""


class RowPace:
    """Says when rows are due to be served again."""

    def __init__(self) -> None:
        self._next = 0.0

    @property
    def due(self) -> bool:
        """True when the pause is over."""
        return time.monotonic() >= self._next

    def served(self, took_s: float) -> None:
        """Begin a pause after rows were served, which took so long [s]."""
        self._next = time.monotonic() + min(PAUSE * took_s, LONGEST_S)
