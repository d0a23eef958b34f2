"""Changes: each is queued for the stage that owns the data, and answered with 202 and the address of its state."""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from fastapi import APIRouter, HTTPException, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.types import RunState
from quietbeam.core.wire import actions, keys
from quietbeam.core.wire.actions import Action, ActionKind
from quietbeam.core.wire.runs import RunStatus
from quietbeam.serve.access import Scope, principal_of
from quietbeam.serve.access.guard import address_of
from quietbeam.serve.answers.actions import (
    ActionAnswer,
    ChosenAnswer,
    ModelId,
    Pinned,
    PinnedAnswer,
    action_resource,
)
from quietbeam.serve.answers.envelope import Links, NoMeta, Resource
from quietbeam.serve.services import Services, Shared

from .about import read_cards
from .envelope import ACCEPTED, ERRORS, answer, base
from .requires import requires

log = structlog.get_logger()
router = APIRouter(tags=["actions"])
_NOTHING_TO_DO = "Already the case; no action is queued."
_RESPONSES: Any = {202: ACCEPTED, **{status: ERRORS[status] for status in (400, 404, 409)}}
Uid = Annotated[str, Path(max_length=64, description="uid of the run; not `latest`, which may change meanwhile.")]


class Denoise(BaseModel):
    """How a run is denoised again."""

    model_config = ConfigDict(extra="forbid")

    weights: str | None = Field(
        default=None, max_length=64, description="Weights to start from; null: the chosen ones."
    )
    budget_s: float | None = Field(
        default=None,
        strict=True,
        ge=0,
        le=3600,
        description="Seconds of fine-tuning; null: what a live run gets in all.",
    )


class Weights(BaseModel):
    """Starting weights of new runs."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64, description="Name, as /models tells; empty: the newest.")


@router.post("/runs/{uid}/denoise", status_code=202, responses=_RESPONSES, dependencies=requires(Scope.WRITE_DATA))
def denoise(uid: Uid, request: Request, shared: Shared, body: Denoise | None = None) -> Response:
    """Denoise a finished run again, with these weights; its maps are replaced as the new ones come."""
    wanted = body or Denoise()
    status = _find(shared, uid)
    if wanted.weights:
        _check_weights(wanted.weights, shared)
    if status.info is None:
        raise HTTPException(409, f"run {status.uid} has no counts to denoise: {status.reason or 'nothing is mapped'}")
    if not _ended(status):
        raise HTTPException(409, f"run {status.uid} is still measured, and denoised as it comes; ask when it has ended")
    queued = {action.kind for action in actions.waiting(shared.connection, status.uid)}
    if ActionKind.DENOISE not in queued and _is_denoised_now(shared, status):
        raise HTTPException(409, f"run {status.uid} is being denoised; ask when its denoise.state is final")
    settings = shared.settings.denoise
    budget_s = wanted.budget_s
    if budget_s is None:
        budget_s = (settings.live_budget + settings.final_budget).total_seconds()
    return _submit(request, shared, ActionKind.DENOISE, status.uid, {"weights": wanted.weights, "budget_s": budget_s})


def _is_denoised_now(shared: Shared, status: RunStatus) -> bool:
    """Return whether a worker makes the final maps; one that refines them gives way to a request."""
    return status.denoise_state != "final" and bool(shared.connection.exists(keys.lease(status.uid)))


@router.put(
    "/runs/{uid}/pin",
    status_code=202,
    responses={200: {"model": PinnedAnswer, "description": _NOTHING_TO_DO}, **_RESPONSES},
    dependencies=requires(Scope.WRITE_DATA),
)
def pin(uid: Uid, request: Request, shared: Shared) -> Response:
    """Pin a run: neither `ingest.keep_runs`, `ingest.keep_bytes` nor DELETE removes it until it is unpinned."""
    return _pin(request, shared, uid, True)


@router.delete(
    "/runs/{uid}/pin",
    status_code=202,
    responses={200: {"model": PinnedAnswer, "description": _NOTHING_TO_DO}, **_RESPONSES},
    dependencies=requires(Scope.WRITE_DATA),
)
def unpin(uid: Uid, request: Request, shared: Shared) -> Response:
    """Unpin a run, so that it may be deleted automatically."""
    return _pin(request, shared, uid, False)


@router.delete("/runs/{uid}", status_code=202, responses=_RESPONSES, dependencies=requires(Scope.DELETE_DATA))
def delete(uid: Uid, request: Request, shared: Shared) -> Response:
    """Delete a finished run for good: counts, maps, history, events, report, and its node in Tiled."""
    status = _find(shared, uid)
    if status.pinned:
        raise HTTPException(409, f"run {status.uid} is pinned; unpin it first (DELETE api/v1/runs/{status.uid}/pin)")
    if not _ended(status):
        raise HTTPException(409, f"run {status.uid} is still measured; stop the scan first, or wait until it is stale")
    if _is_denoised_now(shared, status):
        raise HTTPException(409, f"run {status.uid} is being denoised; try again when its denoise.state is final")
    return _submit(request, shared, ActionKind.DELETE, status.uid, {})


@router.put(
    "/models/chosen",
    status_code=202,
    responses={200: {"model": ChosenAnswer, "description": _NOTHING_TO_DO}, **_RESPONSES},
    dependencies=requires(Scope.WRITE_DATA),
)
def choose_weights(request: Request, shared: Shared, body: Weights) -> Response:
    """Set the starting weights of new runs; runs that are measured now keep theirs."""
    if body.id:
        _check_weights(body.id, shared)
    chosen: Any = shared.connection.get(keys.WEIGHTS)
    if (chosen or b"").decode() == body.id:
        data = ModelId(id=body.id, type="model")
        return answer(ChosenAnswer(data=data, links={"self": f"{base(request)}/models"}, meta=NoMeta()))
    return _submit(request, shared, ActionKind.CHOOSE_WEIGHTS, "", {"weights": body.id})


@router.get(
    "/actions/{action_id}",
    responses={200: {"model": ActionAnswer}, 404: ERRORS[404]},
    dependencies=requires(Scope.READ_METADATA),
)
def get_action(
    action_id: Annotated[str, Path(max_length=32, description="As in Location.")], request: Request, shared: Shared
) -> Response:
    """State of an action: ``queued``, ``running``, ``done`` or ``failed`` with the reason; kept for a week."""
    action = actions.read(shared.connection, action_id)
    if action is None:
        raise NotMeasuredError(f"no action {action_id!r}; actions are forgotten after a week")
    return answer(ActionAnswer(data=action_resource(action), links=_links(request, action), meta=NoMeta()))


def _links(request: Request, action: Action) -> Links:
    here = base(request)
    return {"self": f"{here}/actions/{action.id}", "run": f"{here}/runs/{action.run}" if action.run else None}


def _find(shared: Services, uid: str) -> RunStatus:
    if uid == "latest":
        raise HTTPException(400, "name the run by its uid: 'latest' may be another one by the time it is done")
    return shared.catalog.status(uid)


def _ended(status: RunStatus) -> bool:
    return status.state.ended or status.state is RunState.STALE


def _check_weights(name: str, shared: Services) -> None:
    known = read_cards(shared.settings.weights_dir)
    if name not in known:
        raise NotMeasuredError(f"no weights {name!r} are installed; there are {', '.join(known)}")


def _pin(request: Request, shared: Services, uid: str, pinned: bool) -> Response:
    status = _find(shared, uid)
    if status.info is None:
        raise HTTPException(409, f"run {status.uid} has nothing on disk to keep")
    wanted, other = (ActionKind.PIN, ActionKind.UNPIN) if pinned else (ActionKind.UNPIN, ActionKind.PIN)
    waits = {action.kind for action in actions.waiting(shared.connection, status.uid)}
    if status.pinned == pinned and other not in waits:
        data = Resource(id=status.uid, type="run", attributes=Pinned(pinned=pinned))
        links: Links = {"self": f"{base(request)}/runs/{status.uid}"}
        return answer(PinnedAnswer(data=data, links=links, meta=NoMeta()))
    return _submit(request, shared, wanted, status.uid, {})


def _submit(request: Request, shared: Services, kind: ActionKind, uid: str, options: dict[str, Any]) -> Response:
    """Queue the action, or find the one that waits already; say where to look."""
    by = principal_of(request).name
    for other in actions.waiting(shared.connection, uid):
        clash = other.kind is ActionKind.DELETE and kind is not ActionKind.DELETE
        if clash or (other.kind is not ActionKind.DELETE and kind is ActionKind.DELETE):
            raise HTTPException(409, f"{other.kind} was requested for this run by {other.by} and is not done yet")
    action = actions.submit(shared.connection, kind, uid, by, options)
    if dict(action.options) != options:
        raise HTTPException(
            409, f"{action.by} asked for the same with other options, {dict(action.options)}; wait until that is done"
        )
    log.info(
        "action_requested",
        action=kind,
        id=action.id,
        run=uid,
        options=options,
        by=by,
        kind=principal_of(request).kind,
        address=address_of(request.scope),
    )
    links = _links(request, action)
    body = ActionAnswer(data=action_resource(action), links=links, meta=NoMeta())
    return answer(body, headers={"Location": str(links["self"])}, status=202)
