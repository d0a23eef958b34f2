"""Clusters of a run's pixels, which become named regions."""

from __future__ import annotations

from threading import Lock
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from quietbeam.core.errors import InputError
from quietbeam.regions import Region
from quietbeam.regions.clusters import MOST, find_clusters
from quietbeam.regions.shapes import check_name
from quietbeam.serve.access import Scope
from quietbeam.serve.answers.regions import ClustersAnswer, ClustersMeta
from quietbeam.serve.services import Shared

from .envelope import ERRORS, answer, base
from .regions import region_info, run_to_change
from .requires import requires

router = APIRouter(tags=["regions"])
_MOST_VALUES = 2**26
_one_at_a_time = Lock()


class ClustersBody(BaseModel):
    """How a map is divided."""

    model_config = ConfigDict(extra="forbid")

    method: Literal["kmeans", "nmf"] = "kmeans"
    number: int | None = Field(default=None, strict=True, ge=2, le=MOST, description="Null: the one that divides best.")
    name: str = Field(default="cluster", min_length=1, max_length=56, description="Regions are called `cluster 1` ...")


@router.post(
    "/runs/{uid}/clusters",
    status_code=201,
    responses={201: {"model": ClustersAnswer}, **{status: ERRORS[status] for status in (400, 404, 409)}},
    dependencies=requires(Scope.WRITE_DATA),
)
def make_clusters(
    uid: Annotated[str, Path(max_length=64, description="uid of the run; not `latest`.")],
    request: Request,
    shared: Shared,
    body: ClustersBody | None = None,
) -> Response:
    """Divide the denoised maps into clusters, and keep each as a region; regions of the same names are replaced."""
    wanted = body or ClustersBody()
    status, info = run_to_change(shared, uid)
    check_name(f"{wanted.name} {MOST}")
    if len(info.lines) * info.shape[0] * info.shape[1] > _MOST_VALUES:
        size = " x ".join(map(str, (*info.shape, len(info.lines))))
        raise InputError(f"a map of {size} is too large for clusters here")
    denoised, error = (shared.maps.read(status, kind).values for kind in ("denoised", "uncertainty"))
    with _one_at_a_time:
        found = find_clusters(denoised, error, method=wanted.method, number=wanted.number)
    definition: dict[str, Any] = {"method": wanted.method, "clusters": found.number}
    regions = [
        Region(
            name=f"{wanted.name} {k + 1}",
            kind="cluster",
            mask=found.labels == k,
            definition=definition,
            maps_version=status.maps_version,
        )
        for k in range(found.number)
    ]
    shared.regions.replace(info, {f"{wanted.name} {k + 1}" for k in range(MOST)}, regions)
    meta = ClustersMeta(number=found.number, scores=found.scores, notes=list(found.notes))
    links = {"self": f"{base(request)}/runs/{status.uid}/regions"}
    told = ClustersAnswer(data=[region_info(region) for region in regions], links=links, meta=meta)
    return answer(told, status=201)
