"""The page and its files; every address in them is relative, so that a path prefix costs nothing."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from quietbeam.serve.render.colormaps import DASHBOARD


async def _index(_request: Request) -> Response:
    return FileResponse(DASHBOARD / "index.html", media_type="text/html; charset=utf-8")


def install(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files below ``/ui``."""
    app.add_route("/", _index, include_in_schema=False)
    app.mount("/ui", StaticFiles(directory=DASHBOARD), name="ui")
