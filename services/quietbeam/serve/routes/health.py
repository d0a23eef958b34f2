"""For supervisors and monitoring: alive, ready (with reasons), metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response, Security

from quietbeam.serve.access import Scope, authorize, open_to_all
from quietbeam.serve.answers.about import Alive, Ready
from quietbeam.serve.metrics.readings import read_stages
from quietbeam.serve.services import Shared

router = APIRouter(tags=["health"])


@router.get("/healthz", dependencies=[Depends(open_to_all)])
async def healthz() -> Alive:
    """Alive: the process answers."""
    return Alive(status="ready")


@router.get(
    "/readyz",
    dependencies=[Depends(open_to_all)],
    responses={503: {"model": Ready, "description": "Not ready; `reasons` say why."}},
)
def readyz(shared: Shared, response: Response) -> Ready:
    """Ready: Redis answers and every stage sends heartbeats. Maps and states are served either way."""
    reasons: list[str] = []
    stages: dict[str, Any] = {}
    if not shared.catalog.redis_answers():
        reasons.append(
            "Redis does not answer: runs are read from zarr, live updates are paused; all stages wait for it"
        )
    else:
        if not shared.hub.connected:
            reasons.append("the event reader has no connection to Redis yet")
        found: dict[str, dict[str, str]] = shared.catalog.query_redis(read_stages, {})
        stages = {name: beat.get("state") if beat else "silent" for name, beat in found.items()}
        remedies = {
            "ingest": "no scan is taken in",
            "worker": "new rows are shown raw only",
            "publish": "nothing goes to Tiled",
        }
        for name, effect in remedies.items():
            if stages.get(name) == "silent" and not shared.catalog.refusal:
                reasons.append(f"stage {name} is silent: {effect}; start `quietbeam {name}` or `quietbeam up`")
            elif stages.get(name) == "degraded":
                reasons.append(found[name].get("detail", "") or f"stage {name} is in trouble; its log says more")
    if shared.catalog.refusal:
        reasons.append(f"{shared.catalog.refusal}. Every stage waits for that, and retries.")
    if not shared.settings.data_dir.is_dir():
        reasons.append("the folder data_dir is not there: mount it, or correct data_dir; no run can be read")
    ready = shared.catalog.redis_answers() and shared.hub.connected
    response.status_code = 200 if ready else 503
    status = "ready" if ready and not reasons else "degraded" if ready else "not ready"
    return Ready(status=status, reasons=reasons, stages=stages, viewers=shared.hub.viewers)


@router.get(
    "/metrics",
    dependencies=[Security(authorize, scopes=[Scope.METRICS])],
    responses={200: {"content": {"text/plain": {}}}},
    response_class=Response,
)
def metrics(shared: Shared) -> Response:
    """Prometheus metrics of the service and of the stages behind it."""
    return Response(shared.requests.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
