"""What a run reports when it is polled."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto


class Phase(Enum):
    """Where a run stands between its start document and its end."""

    AWAITING_START = auto()
    AWAITING_DESCRIPTOR = auto()
    OPEN = auto()
    ENDED = auto()
    """The stop document came and every row is written; data that come later open it again."""
    GIVEN_UP = auto()
    """An internal error: nothing more is written, its documents stay unacknowledged."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A document of a run that could not be used: its name (``event``, ``stream_datum`` ...) and the reason."""

    run: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsWritten:
    """Rows of one map that are on disk now.

    Attributes
    ----------
    rows
        Row numbers; a row that was written twice stands here twice.
    pixels_measured
        Of the whole map.
    last_document
        Monotonic time of the last document of the run.
    """

    run: str
    rows: tuple[int, ...]
    pixels_measured: int
    last_document: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PollResult:
    """What happened in one poll."""

    rows_written: list[RowsWritten] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def extend(self, other: PollResult) -> None:
        """Add what another poll returned."""
        self.rows_written.extend(other.rows_written)
        self.refused.extend(other.refused)
