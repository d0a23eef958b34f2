"""Which runs a request asks for, and which page of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import Depends, Query, Request
from pydantic import Field

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RunState
from quietbeam.serve.answers.envelope import Links
from quietbeam.serve.state.run_list import PageOfRuns, RunFilter, RunPlace

_STATE = f"({'|'.join(RunState)})"
_STATES = f"^({_STATE}(,{_STATE}){{0,7}})?$"
_PLACE = r"^-?[0-9.e+-]{1,30}:.+$"
_KEY_VALUE = r"^[^:]*[^:\s][^:]*:"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A part of the list of runs."""

    request: Request
    offset: Annotated[int, Query(alias="page[offset]", ge=0, le=10_000_000, description="Runs to skip.")] = 0
    limit: Annotated[int, Query(alias="page[limit]", ge=1, le=300, description="Runs to return.")] = 50
    after: Annotated[
        str | None,
        Query(alias="page[after]", max_length=400, pattern=_PLACE, description="Runs behind this place, of `next`."),
    ] = None
    before: Annotated[
        str | None,
        Query(alias="page[before]", max_length=400, pattern=_PLACE, description="Runs before this place, of `prev`."),
    ] = None

    @property
    def place_after(self) -> RunPlace | None:
        """Place of the last run of the page before."""
        return _parse_place(self.after)

    @property
    def place_before(self) -> RunPlace | None:
        """Place of the first run of the page behind."""
        return _parse_place(self.before)

    def links(self, address: str, found: PageOfRuns) -> Links:
        """Return the addresses of this page and of its neighbours, with the same filters.

        Neighbours are named by a place in the list: while runs start, an offset would show some twice.
        """
        given = self.request.query_params.multi_items()
        filters = "".join(f"&{urlencode([pair])}" for pair in given if not pair[0].startswith("page["))

        def page(name: str, value: object) -> str:
            return f"{address}?page[{name}]={quote(str(value), safe='')}&page[limit]={self.limit}{filters}"

        def beside(name: str, place: RunPlace | None) -> str | None:
            return page(name, f"{place.time_start!r}:{place.uid}") if place is not None else None

        here = page("after", self.after) if self.after else page("before", self.before) if self.before else None
        return {
            "self": here or page("offset", self.offset),
            "first": page("offset", 0),
            "prev": beside("before", found.first) if found.has_less else None,
            "next": beside("after", found.last) if found.has_more else None,
            "last": page("offset", max(0, found.total - 1) // self.limit * self.limit),
        }


def _parse_place(text: str | None) -> RunPlace | None:
    if text is None:
        return None
    time_start, _, uid = text.partition(":")
    try:
        return RunPlace(float(time_start), uid)
    except ValueError as error:
        raise InputError(f"page: {text[:60]!r} is no place in the list; follow the links of an answer") from error


Page = Annotated[RunPage, Depends()]


def run_filter(
    state: Annotated[
        str | None,
        Query(
            max_length=200, description="Only these states, comma separated.", json_schema_extra={"pattern": _STATES}
        ),
    ] = None,
    since: Annotated[
        float | None, Query(allow_inf_nan=False, description="Started at or after [s since 1970].")
    ] = None,
    until: Annotated[float | None, Query(allow_inf_nan=False, description="Started before [s since 1970].")] = None,
    plan: Annotated[str | None, Query(max_length=100, description="Only this plan.")] = None,
    scan_id: Annotated[int | None, Query(description="Only this scan_id.")] = None,
    metadata: Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": _KEY_VALUE}, max_length=500)]] | None,
        Query(max_length=10, description="KEY:VALUE of the start document; several must all hold. sample.name:rock"),
    ] = None,
) -> RunFilter:
    """Return which runs are wanted.

    Raises
    ------
    InputError
        An unknown state, or metadata without a colon.
    """
    return RunFilter(
        states=_parse_states(state) if state else None,
        since=since,
        until=until,
        plan=plan,
        scan_id=scan_id,
        metadata=_parse_metadata(metadata or []),
    )


Wanted = Annotated[RunFilter, Depends(run_filter)]


def newest_first(
    sort: Annotated[Literal["-time_start", "time_start"], Query(description="Order.")] = "-time_start",
) -> bool:
    """Return whether the run that started last comes first."""
    return sort == "-time_start"


NewestFirst = Annotated[bool, Depends(newest_first)]


def _parse_states(text: str) -> frozenset[RunState]:
    try:
        return frozenset(RunState(part.strip().lower()) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{error}; states are {', '.join(RunState)}") from error


def _parse_metadata(pairs: list[str]) -> dict[str, str]:
    out = {}
    for pair in pairs:
        key, colon, value = pair.partition(":")
        if not colon or not key.strip():
            raise InputError(f"metadata={pair[:60]!r} is no KEY:VALUE, as metadata=sample.name:rock")
        out[key.strip()] = value.strip()
    return out
