"""Runs: what was or is measured, how far it is, and the evidence for its denoised maps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from quietbeam.core.errors import InputError
from quietbeam.core.model.advice import advise
from quietbeam.core.model.types import RunState
from quietbeam.core.wire import actions
from quietbeam.core.wire.actions import Action
from quietbeam.core.wire.runs import RunStatus
from quietbeam.serve.access import Scope, needs
from quietbeam.serve.report.page import CSP, make_report
from quietbeam.serve.services import Shared
from quietbeam.serve.state.catalog import RunFilter

from .actions import describe_action
from .envelope import ERRORS, Envelope, answer, base, unchanged

router = APIRouter(tags=["runs"])
_RESPONSES: Any = {200: {"model": Envelope}, 400: ERRORS[400], 404: ERRORS[404]}
_STATE = f"({'|'.join(RunState)})"
_STATES = f"^({_STATE}(,{_STATE}){{0,7}})?$"
_LONGEST_S = 30 * 24 * 3600  # a scan that began earlier began on a wrong clock: no estimate


@router.get("/runs", responses=_RESPONSES)
@needs(Scope.READ_METADATA)
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
    asked = [(name, value) for name, value in request.query_params.multi_items() if not name.startswith("page[")]

    def page(first: int) -> str:
        more = "".join(f"&{urlencode([pair])}" for pair in asked)
        return f"{here}/runs?page[offset]={first}&page[limit]={limit}{more}"

    return answer(
        [describe(status, here, brief=True) for status in found],
        links={
            "self": page(offset),
            "first": page(0),
            "prev": page(max(0, offset - limit)) if offset else None,
            "next": page(offset + limit) if offset + limit < total else None,
            "last": page(max(0, total - 1) // limit * limit),
        },
        meta={"count": total},
    )


@router.get("/runs/{uid}", responses=_RESPONSES)
@needs(Scope.READ_METADATA)
def get_run(uid: str, request: Request, shared: Shared) -> Response:
    """One run; ``latest`` is the run that started last."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = base(request)
    nothing: list[Action] = []
    asked = shared.catalog.ask(lambda connection: actions.waiting(connection, status.uid), nothing)
    meta = {"redis": shared.catalog.redis_answers(), "actions": [describe_action(action) for action in asked]}
    return answer(describe(status, here), links=_links(status.uid, here), meta=meta)


@router.get("/runs/{uid}/evidence", responses={**_RESPONSES, 304: {"description": "Not changed."}})
@needs(Scope.READ_METADATA)
def get_evidence(uid: str, request: Request, shared: Shared) -> Response:
    """What held-out photons say about each line's map: dwell gain with its interval, bias, chosen estimator."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = base(request)
    tag = f"{status.uid}.{status.maps_version}.evidence"
    headers = {"ETag": f'"{tag}"'}
    if unchanged(request, tag):
        return Response(status_code=304, headers=headers)
    meta: dict[str, Any] = {"denoise_state": status.denoise_state, "maps_version": status.maps_version}
    if status.evidence is None:
        meta["reason"] = _no_evidence(status)
    return answer(
        status.evidence.to_dict() if status.evidence else None,
        links={"self": f"{here}/runs/{status.uid}/evidence", "run": f"{here}/runs/{status.uid}"},
        meta=meta,
        headers=headers,
    )


@router.get("/runs/{uid}/advice", responses={**_RESPONSES, 304: {"description": "Not changed."}})
@needs(Scope.READ_METADATA)
def get_advice(
    uid: str,
    request: Request,
    shared: Shared,
    snr: Annotated[float, Query(ge=0.1, le=1000, description="Wanted signal-to-noise ratio of a pixel.")] = 10,
) -> Response:
    """How long to count: each line's SNR now, raw and denoised, and the dwell or passes that the wanted SNR takes."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = f"{base(request)}/runs/{status.uid}"
    tag = f"{status.uid}.{status.maps_version}.advice.{snr!r}"
    headers = {"ETag": f'"{tag}"'}
    if unchanged(request, tag):
        return Response(status_code=304, headers=headers)
    meta: dict[str, Any] = {"denoise_state": status.denoise_state, "maps_version": status.maps_version}
    if status.evidence is None:
        meta["reason"] = _no_evidence(status)
    advice = advise(status.info, status.evidence, snr) if status.info and status.evidence else None
    return answer(
        advice.to_dict() if advice else None,
        links={"self": f"{here}/advice?snr={snr!r}", "evidence": f"{here}/evidence", "run": here},
        meta=meta,
        headers=headers,
    )


@router.get("/runs/{uid}/history", responses=_RESPONSES)
@needs(Scope.READ_METADATA)
def get_history(uid: str, request: Request, shared: Shared) -> Response:
    """States of the maps over the scan, oldest first; those with ``maps`` can be read with ``version=``."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = f"{base(request)}/runs/{status.uid}"
    states = shared.catalog.history(status.uid)
    data = [
        {
            "id": str(state.version),
            "type": "map_state",
            "attributes": asdict(state),
            "links": {"denoised": f"{here}/maps/denoised?version={state.version}"} if state.maps else {},
        }
        for state in states
    ]
    meta = {"count": len(states), "maps_version": status.maps_version}
    return answer(data, links={"self": f"{here}/history", "run": here}, meta=meta)


@router.get("/runs/{uid}/report", response_class=HTMLResponse, responses={404: ERRORS[404]})
@needs(Scope.READ_METADATA, Scope.READ_DATA)
def get_report(uid: str, shared: Shared) -> Response:
    """The run on one page: maps, evidence, detectors, provenance; a file that needs nothing else."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    headers = {"Content-Security-Policy": CSP, "Content-Disposition": f'inline; filename="quietbeam-{status.uid}.html"'}
    return HTMLResponse(make_report(status, shared.maps), headers=headers)


@router.get("/runs/{uid}/detectors", responses=_RESPONSES)
@needs(Scope.READ_METADATA)
def get_detectors(uid: str, request: Request, shared: Shared) -> Response:
    """The health of every detector: its share of each line, or why it is left out, and its drift."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = f"{base(request)}/runs/{status.uid}"
    evidence = status.evidence
    known = {one.detector: one for one in evidence.detectors} if evidence else {}
    data = []
    for index, name in enumerate(status.info.detectors if status.info else ()):
        one = known.get(name)
        excluded = {line.line: line.excluded_detectors.get(name) for line in evidence.lines} if evidence else {}
        data.append(
            {
                "id": name,
                "type": "detector",
                "attributes": {
                    "index": index,
                    "position": status.info.detector_positions.get(name) if status.info else None,
                    "lines": {
                        line: {"gain": one.gains.get(line) if one else None, "excluded": why}
                        for line, why in excluded.items()
                    },
                    "total_counts": one.total_counts if one else None,
                    "drift": one.drift if one else None,
                },
            }
        )
    meta: dict[str, Any] = {"count": len(data), "maps_version": status.maps_version}
    if evidence is None:
        meta["reason"] = _no_evidence(status)
    return answer(data, links={"self": f"{here}/detectors", "run": here}, meta=meta)


def _no_evidence(status: RunStatus) -> str:
    return status.denoise_reason or "no evidence yet: the first rows are still being measured"


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


def _links(uid: str, here: str) -> dict[str, str | None]:
    run = f"{here}/runs/{uid}"
    return {
        "self": run,
        **{
            name: f"{run}/{name}" for name in ("maps", "evidence", "advice", "history", "detectors", "report", "events")
        },
    }


def describe(status: RunStatus, here: str, *, brief: bool = False) -> dict[str, Any]:
    """Return a run as JSON types; `brief` leaves out evidence and the start document."""
    info = status.info
    now = time.time()
    attributes: dict[str, Any] = {
        "uid": status.uid,
        "state": status.state,
        "reason": status.reason,
        "ended": status.state.ended,
        "scan_id": info.scan_id if info else None,
        "plan": info.plan if info else "",
        "sample": _sample(info.metadata) if info else "",
        "profile": info.profile if info else "",
        "shape": info.shape if info else None,
        "lines": info.lines if info else [],
        "detectors": info.detectors if info else [],
        "kind": info.kind if info else None,
        "time_start": info.time_start if info else None,
        "time_stop": status.time_stop,
        "data_age_s": round(max(0.0, now - status.last_document_at), 3) if status.last_document_at else None,
        "progress": _progress(status),
        "denoise": {
            "state": status.denoise_state,
            "reason": status.denoise_reason,
            "rows": status.denoise_rows,
            "lag_s": status.denoise_lag_s,
            "model": status.evidence.model if status.evidence else None,
        },
        "maps_version": status.maps_version,
        "warnings": status.warnings,
        "pinned": status.pinned,
    }
    if not brief:
        attributes |= {
            "step": info.step if info else None,
            "origin": info.origin if info else None,
            "units": info.units if info else None,
            "snake": info.snake if info else None,
            "dwell_s": info.dwell_s if info else None,
            "source": info.source if info else "",
            "publish": {
                "state": status.publish_state,
                "reason": status.publish_reason,
                "tiled_path": status.tiled_path,
            },
            "evidence": status.evidence.to_dict() if status.evidence else None,
            "metadata": info.metadata if info else {},
        }
    return {"id": status.uid, "type": "run", "attributes": attributes, "links": {"self": f"{here}/runs/{status.uid}"}}


def _sample(metadata: Mapping[str, Any]) -> str:
    """Return the name of the sample, which start documents give as text or as ``{"name": ...}``."""
    sample = metadata.get("sample")
    return str((sample.get("name") if isinstance(sample, Mapping) else sample) or "")


def _progress(status: RunStatus) -> dict[str, Any]:
    if status.info is None:
        return {"rows_measured": status.rows_measured, "pixels_measured": status.pixels_measured}
    rows, cols = status.info.shape
    pixels = rows * cols
    elapsed = (status.last_document_at or 0.0) - status.info.time_start
    eta = None
    if status.state is RunState.RUNNING and 0 < elapsed < _LONGEST_S and 0 < status.pixels_measured < pixels:
        eta = round(elapsed / status.pixels_measured * (pixels - status.pixels_measured), 1)
    return {
        "rows": rows,
        "rows_measured": status.rows_measured,
        "pixels": pixels,
        "pixels_measured": status.pixels_measured,
        "fraction": status.pixels_measured / pixels if pixels else 0.0,
        "eta_s": eta,
    }
