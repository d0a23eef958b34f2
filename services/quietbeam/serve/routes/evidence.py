"""How far a run's maps can be trusted: evidence, advice, earlier states, detectors."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from quietbeam.core.model.advice import advise
from quietbeam.core.wire.runs import RunStatus
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.envelope import Resource
from quietbeam.serve.answers.evidence import (
    AdviceAnswer,
    DetectorInfo,
    DetectorLine,
    DetectorsAnswer,
    DetectorsMeta,
    EvidenceAnswer,
    EvidenceMeta,
    HistoryAnswer,
    HistoryMeta,
)
from quietbeam.serve.services import Shared

from .envelope import ERRORS, answer, base, etag, not_modified, unchanged
from .requires import requires

router = APIRouter(tags=["runs"])
_NOT_MODIFIED: Any = {304: {"description": "Not changed."}}


def _responses(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, 400: ERRORS[400], 404: ERRORS[404]}


@router.get(
    "/runs/{uid}/evidence",
    responses={**_responses(EvidenceAnswer), **_NOT_MODIFIED},
    dependencies=requires(Scope.READ_METADATA),
)
def get_evidence(uid: str, request: Request, shared: Shared) -> Response:
    """What held-out photons say about each line's map: verdict, dwell gain with its interval, bias, estimator."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = f"{base(request)}/runs/{status.uid}"
    tag = f"{status.uid}.{status.maps_version}.evidence"
    if unchanged(request, tag):
        return not_modified(tag)
    body = EvidenceAnswer(
        data=status.evidence, links={"self": f"{here}/evidence", "run": here}, meta=_evidence_meta(status)
    )
    return answer(body, headers={"ETag": etag(tag)})


@router.get(
    "/runs/{uid}/advice",
    responses={**_responses(AdviceAnswer), **_NOT_MODIFIED},
    dependencies=requires(Scope.READ_METADATA),
)
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
    if unchanged(request, tag):
        return not_modified(tag)
    advice = advise(status.info, status.evidence, snr) if status.info and status.evidence else None
    links = {"self": f"{here}/advice?snr={snr!r}", "evidence": f"{here}/evidence", "run": here}
    return answer(AdviceAnswer(data=advice, links=links, meta=_evidence_meta(status)), headers={"ETag": etag(tag)})


@router.get("/runs/{uid}/history", responses=_responses(HistoryAnswer), dependencies=requires(Scope.READ_METADATA))
def get_history(uid: str, request: Request, shared: Shared) -> Response:
    """States of the maps over the scan, oldest first; those with ``maps`` can be read with ``version=``."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = f"{base(request)}/runs/{status.uid}"
    data = [
        Resource(
            id=str(state.version),
            type="map_state",
            attributes=state,
            links={"denoised": f"{here}/maps/denoised?version={state.version}"} if state.maps else {},
        )
        for state in shared.catalog.history(status.uid)
    ]
    meta = HistoryMeta(count=len(data), maps_version=status.maps_version)
    return answer(HistoryAnswer(data=data, links={"self": f"{here}/history", "run": here}, meta=meta))


@router.get("/runs/{uid}/detectors", responses=_responses(DetectorsAnswer), dependencies=requires(Scope.READ_METADATA))
def get_detectors(uid: str, request: Request, shared: Shared) -> Response:
    """Every detector: its share of each line, or why it is left out, and its drift."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    here = f"{base(request)}/runs/{status.uid}"
    names = status.info.detectors if status.info else ()
    data = [
        Resource(id=name, type="detector", attributes=_detector(status, index, name))
        for index, name in enumerate(names)
    ]
    meta = DetectorsMeta(count=len(data), maps_version=status.maps_version, **_no_evidence(status))
    return answer(DetectorsAnswer(data=data, links={"self": f"{here}/detectors", "run": here}, meta=meta))


def _detector(status: RunStatus, index: int, name: str) -> DetectorInfo:
    evidence = status.evidence
    found = next((detector for detector in evidence.detectors if detector.detector == name), None) if evidence else None
    lines = {
        line.line: DetectorLine(
            gain=found.gains.get(line.line) if found else None, excluded=line.excluded_detectors.get(name)
        )
        for line in (evidence.lines if evidence else ())
    }
    return DetectorInfo(
        index=index,
        position=status.info.detector_positions.get(name) if status.info else None,
        lines=lines,
        total_counts=found.total_counts if found else None,
        drift=found.drift if found else None,
    )


def _evidence_meta(status: RunStatus) -> EvidenceMeta:
    return EvidenceMeta(denoise_state=status.denoise_state, maps_version=status.maps_version, **_no_evidence(status))


def _no_evidence(status: RunStatus) -> dict[str, str]:
    """Return the reason why there is no evidence; empty where there is."""
    if status.evidence is not None:
        return {}
    return {"reason": status.denoise_reason or "no evidence yet: the first rows are still being measured"}
