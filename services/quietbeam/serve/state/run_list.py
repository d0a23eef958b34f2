"""The list of runs: which are wanted, and a page of them that stays where it is while runs start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quietbeam.core.model.types import RunInfo, RunState
from quietbeam.core.wire.runs import RunStatus


@dataclass(frozen=True, slots=True, order=True)
class RunPlace:
    """Where a run stands in the list: by the time of its start [s since 1970], then by its uid."""

    time_start: float
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are wanted; None is any.

    Attributes
    ----------
    since, until
        Start time, seconds since 1970.
    metadata
        Entries of the start document as text, nested ones with dots.
    """

    states: frozenset[RunState] | None = None
    since: float | None = None
    until: float | None = None
    plan: str | None = None
    scan_id: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_start_document(self) -> bool:
        """True when the start document decides."""
        return self.plan is not None or self.scan_id is not None or bool(self.metadata)

    def matches(self, run: RunInfo | RunStatus | None) -> bool:
        """True for a run whose start document fits; of a run that is no map, the status knows scan id and plan."""
        if run is None:
            return False
        if self.plan is not None and run.plan != self.plan:
            return False
        if self.scan_id is not None and run.scan_id != self.scan_id:
            return False
        metadata = run.metadata if isinstance(run, RunInfo) else {}
        return all(_text(metadata, key) == value for key, value in self.metadata.items())


def _text(metadata: Any, key: str) -> str | None:
    """Return an entry as text; dots lead into nested entries."""
    value: Any = metadata
    for part in [key] if isinstance(metadata, Mapping) and key in metadata else key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfRuns:
    """A part of the list of runs.

    Attributes
    ----------
    total
        Number of all runs that are wanted.
    first, last
        Places of the first and the last run of the page; the list may grow, a run keeps its place.
    has_more, has_less
        Whether there are runs behind the page, and before it.
    """

    runs: Sequence[RunStatus]
    total: int
    first: RunPlace | None
    last: RunPlace | None
    has_more: bool
    has_less: bool


def page_of(
    places: Sequence[RunPlace],
    offset: int,
    limit: int,
    *,
    newest_first: bool,
    after: RunPlace | None,
    before: RunPlace | None,
) -> tuple[Sequence[RunPlace], int]:
    """Return the places of a page and the index of its first.

    Parameters
    ----------
    places
        All, in their order.
    offset, limit
        Index of the first, number of places.
    after, before
        In place of `offset`: the first ones behind a place, or the last ones before it. Need not be there any more.
    """

    def is_behind(place: RunPlace, mark: RunPlace) -> bool:
        return place < mark if newest_first else place > mark

    if after is not None:
        offset = sum(not is_behind(place, after) for place in places)
    elif before is not None:
        end = sum(is_behind(before, place) for place in places)
        offset = max(0, end - limit)
        limit = end - offset
    return places[offset : offset + limit], offset
