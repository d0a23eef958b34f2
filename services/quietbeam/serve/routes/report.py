"""The report of a run."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from quietbeam.serve.access import Scope
from quietbeam.serve.report.page import CSP, make_report
from quietbeam.serve.services import Shared

from .envelope import ERRORS
from .requires import requires

router = APIRouter(tags=["runs"])


@router.get(
    "/runs/{uid}/report",
    response_class=HTMLResponse,
    responses={404: ERRORS[404]},
    dependencies=requires(Scope.READ_METADATA, Scope.READ_DATA),
)
def get_report(uid: str, shared: Shared) -> Response:
    """The run on one page: maps, evidence, detectors, provenance; a file that needs nothing else."""
    status = shared.catalog.status(shared.catalog.resolve(uid))
    headers = {"Content-Security-Policy": CSP, "Content-Disposition": f'inline; filename="quietbeam-{status.uid}.html"'}
    return HTMLResponse(make_report(status, shared.maps, shared.units), headers=headers)
