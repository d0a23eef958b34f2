"""Runs: which there are, and their state."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from quietbeam.core.wire import actions
from quietbeam.core.wire.actions import Action
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.actions import action_resource
from quietbeam.serve.answers.envelope import Count, Links, Resource
from quietbeam.serve.answers.runs import RunAnswer, RunDetail, RunMeta, RunsAnswer, RunSummary
from quietbeam.serve.services import Shared

from .envelope import ERRORS, answer, base
from .requires import requires
from .run_query import NewestFirst, Page, Wanted

router = APIRouter(tags=["runs"])
_BELOW = ("maps", "evidence", "advice", "history", "detectors", "regions", "units", "report", "events")


@router.get(
    "/runs", responses={200: {"model": RunsAnswer}, 400: ERRORS[400]}, dependencies=requires(Scope.READ_METADATA)
)
def list_runs(request: Request, shared: Shared, page: Page, wanted: Wanted, newest_first: NewestFirst) -> Response:
    """Runs, the newest first, or with ``sort=time_start`` the oldest first."""
    found = shared.catalog.page(
        page.offset, page.limit, wanted, newest_first=newest_first, after=page.place_after, before=page.place_before
    )
    here = base(request)
    data = [
        Resource(
            id=status.uid,
            type="run",
            attributes=RunSummary.from_status(status),
            links={"self": f"{here}/runs/{status.uid}"},
        )
        for status in found.runs
    ]
    return answer(RunsAnswer(data=data, links=page.links(f"{here}/runs", found), meta=Count(count=found.total)))


@router.get(
    "/runs/{uid}", responses={200: {"model": RunAnswer}, 404: ERRORS[404]}, dependencies=requires(Scope.READ_METADATA)
)
def get_run(uid: str, request: Request, shared: Shared) -> Response:
    """One run; ``latest`` is the run that started last."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = f"{base(request)}/runs/{status.uid}"
    none_waiting: list[Action] = []
    waiting = shared.catalog.query_redis(lambda connection: actions.waiting(connection, status.uid), none_waiting)
    meta = RunMeta(redis=shared.catalog.redis_answers(), actions=[action_resource(action) for action in waiting])
    data = Resource(id=status.uid, type="run", attributes=RunDetail.from_status(status), links={"self": here})
    links: Links = {"self": here, **{name: f"{here}/{name}" for name in _BELOW}}
    return answer(RunAnswer(data=data, links=links, meta=meta))
