"""For supervisors and monitoring: alive, ready (with reasons), metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from quietbeam.serve.access.scopes import Scope, needs, open_to_all
from quietbeam.serve.metrics.readings import read_stages
from quietbeam.serve.services import Shared

router = APIRouter(tags=["health"])


@router.get("/healthz")
@open_to_all
async def healthz() -> dict[str, str]:
    """Alive: the process answers."""
    return {"status": "ready"}


@router.get("/readyz", responses={503: {"description": "Not ready; `reasons` say why."}})
@open_to_all
def readyz(shared: Shared, response: Response) -> dict[str, Any]:
    """Ready: Redis answers and every stage sends heartbeats. Maps and states are served either way."""
    reasons: list[str] = []
    stages: dict[str, Any] = {}
    if not shared.catalog.redis_answers():
        reasons.append("Redis does not answer: runs are read from the zarr buffers, live updates are paused")
    else:
        if not shared.hub.connected:
            reasons.append("the event reader has no connection to Redis yet")
        found: dict[str, dict[str, str]] = shared.catalog.ask(read_stages, {})
        stages = {name: beat.get("state") if beat else "silent" for name, beat in found.items()}
        remedies = {
            "ingest": "no scan is taken in",
            "worker": "new rows are shown raw only",
            "publish": "nothing goes to Tiled",
        }
        for name, effect in remedies.items():
            if stages.get(name) == "silent":
                reasons.append(f"stage {name} is silent: {effect}; start `quietbeam {name}` or `quietbeam up`")
            elif stages.get(name) == "degraded":
                reasons.append(found[name].get("detail", "") or f"stage {name} is in trouble; its log says more")
    if not shared.settings.data_dir.is_dir():
        reasons.append("the folder data_dir is not there: mount it, or correct data_dir; no run can be read")
    ready = shared.catalog.redis_answers() and shared.hub.connected
    response.status_code = 200 if ready else 503
    status = "ready" if ready and not reasons else "degraded" if ready else "not ready"
    return {"status": status, "reasons": reasons, "stages": stages, "viewers": shared.hub.viewers}


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
@needs(Scope.METRICS)
def metrics(shared: Shared) -> Response:
    """Prometheus metrics of the service and of the stages behind it."""
    return Response(shared.requests.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
