"""What Tiled does not have yet: for every active run the rows that changed. Bounded: a band and a few numbers a run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Pauses before what failed of one run is tried again."""
OUTAGE_S = (0.5, 1.0, 2.0, 4.0)
"""Pauses before a Tiled that does not answer is asked again: one question, and all runs wait for the answer."""


@dataclass(slots=True)
class Parcel:
    """What is to be sent of one run; a newer change widens the band, so the latest always wins.

    Attributes
    ----------
    uid
        Run.
    rows
        Rows [first, stop) that changed since the last update; None when no map changed.
    whole
        Everything must be sent: a wake-up was missed, or Tiled lost it.
    version
        Version of the maps that the wake-ups so far announce.
    token
        Lease under which it was written; maps of another lease are sent whole.
    described
        Metadata changed.
    due
        Monotonic time before which nothing is sent.
    failures
        Failed attempts in a row.
    """

    uid: str
    rows: tuple[int, int] | None = None
    whole: bool = True
    version: int = 0
    token: int = 0
    described: bool = True
    due: float = 0.0
    failures: int = 0
    reason: str = field(default="")

    @property
    def waiting(self) -> bool:
        """True when there is something to send."""
        return self.whole or self.described or self.rows is not None

    def changed(self, first_row: int, stop_row: int, version: int, token: int = 0) -> None:
        """Add the rows of a wake-up; a gap in the versions means that one was lost."""
        if version != self.version + 1 or token != self.token:
            self.whole = True
        self.version = max(version, self.version)
        self.token = max(token, self.token)
        first, stop = self.rows or (first_row, stop_row)
        self.rows = min(first, first_row), max(stop, stop_row)

    def sent(self, interval_s: float) -> None:
        """Mark everything as sent; the next update is due after the interval."""
        self.rows, self.whole, self.described, self.failures, self.reason = None, False, False, 0, ""
        self.due = time.monotonic() + interval_s

    def failed(self, reason: str) -> None:
        """Mark an attempt as failed; the next is due after a time that grows with every failure."""
        self.due = time.monotonic() + BACKOFF_S[min(self.failures, len(BACKOFF_S) - 1)]
        self.failures += 1
        self.reason = reason


def next_due(parcels: list[Parcel]) -> Parcel | None:
    """Return the parcel that has waited longest, or None when none is due."""
    now = time.monotonic()
    due = [p for p in parcels if p.waiting and p.due <= now]
    return min(due, key=lambda p: p.due, default=None)
