"""Runs: which there are, and their state."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RunState
from quietbeam.core.wire import actions
from quietbeam.core.wire.actions import Action
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.actions import action_resource
from quietbeam.serve.answers.envelope import Count, Links, Resource
from quietbeam.serve.answers.runs import RunAnswer, RunDetail, RunMeta, RunsAnswer, RunSummary
from quietbeam.serve.services import Shared
from quietbeam.serve.state.catalog import RunFilter

from .envelope import ERRORS, answer, base
from .requires import requires

router = APIRouter(tags=["runs"])
_STATE = f"({'|'.join(RunState)})"
_STATES = f"^({_STATE}(,{_STATE}){{0,7}})?$"
_BELOW = ("maps", "evidence", "advice", "history", "detectors", "report", "events")


@router.get(
    "/runs", responses={200: {"model": RunsAnswer}, 400: ERRORS[400]}, dependencies=requires(Scope.READ_METADATA)
)
def list_runs(
    request: Request,
    shared: Shared,
    offset: Annotated[int, Query(alias="page[offset]", ge=0, le=10_000_000, description="Runs to skip.")] = 0,
    limit: Annotated[int, Query(alias="page[limit]", ge=1, le=300, description="Runs to return.")] = 50,
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
    sort: Annotated[Literal["-time_start", "time_start"], Query(description="Order.")] = "-time_start",
    metadata: Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": r"^[^:]*[^:\s][^:]*:"}, max_length=500)]] | None,
        Query(max_length=10, description="KEY:VALUE of the start document; several must all hold. sample.name:rock"),
    ] = None,
) -> Response:
    """Runs, the newest first, or with ``sort=time_start`` the oldest first."""
    states = _parse_states(state) if state else None
    wanted = RunFilter(
        states=states, since=since, until=until, plan=plan, scan_id=scan_id, metadata=_parse_metadata(metadata or [])
    )
    found, total = shared.catalog.page(offset, limit, wanted, newest_first=sort == "-time_start")
    here = base(request)
    filters = [(name, value) for name, value in request.query_params.multi_items() if not name.startswith("page[")]

    def page(first: int) -> str:
        more = "".join(f"&{urlencode([pair])}" for pair in filters)
        return f"{here}/runs?page[offset]={first}&page[limit]={limit}{more}"

    links: Links = {
        "self": page(offset),
        "first": page(0),
        "prev": page(max(0, offset - limit)) if offset else None,
        "next": page(offset + limit) if offset + limit < total else None,
        "last": page(max(0, total - 1) // limit * limit),
    }
    data = [
        Resource(
            id=status.uid,
            type="run",
            attributes=RunSummary.from_status(status),
            links={"self": f"{here}/runs/{status.uid}"},
        )
        for status in found
    ]
    return answer(RunsAnswer(data=data, links=links, meta=Count(count=total)))


@router.get(
    "/runs/{uid}", responses={200: {"model": RunAnswer}, 404: ERRORS[404]}, dependencies=requires(Scope.READ_METADATA)
)
def get_run(uid: str, request: Request, shared: Shared) -> Response:
    """One run; ``latest`` is the run that started last."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = f"{base(request)}/runs/{status.uid}"
    none_waiting: list[Action] = []
    waiting = shared.catalog.ask(lambda connection: actions.waiting(connection, status.uid), none_waiting)
    meta = RunMeta(redis=shared.catalog.redis_answers(), actions=[action_resource(action) for action in waiting])
    data = Resource(id=status.uid, type="run", attributes=RunDetail.from_status(status), links={"self": here})
    links: Links = {"self": here, **{name: f"{here}/{name}" for name in _BELOW}}
    return answer(RunAnswer(data=data, links=links, meta=meta))


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
