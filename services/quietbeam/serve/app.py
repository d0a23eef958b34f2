"""The application: everything put together around one Redis client and one event reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import redis
from fastapi import Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.types import ASGIApp, Receive, Scope, Send

from quietbeam.core.bus import Connection, connect
from quietbeam.core.settings import Settings
from quietbeam.core.stage import HEARTBEAT_S, heartbeat
from quietbeam.core.version import __version__

from . import problems
from .catalog import RunCatalog
from .events import EventHub
from .maps import MapReader
from .observe import Observe, RequestMetrics
from .report import write_reports
from .security import Guard, SafeHeaders

API = "/api/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the routes share."""

    settings: Settings
    connection: Connection
    catalog: RunCatalog
    maps: MapReader
    hub: EventHub
    requests: RequestMetrics


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Shared = Annotated[Services, Depends(_services)]


def create_app(settings: Settings) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    settings
        All settings; `serve` is ours, `runs_dir` and `redis_url` are read.
    """
    from .routes import about, dashboard, events, health, maps, runs, values

    connection = connect(settings.redis_url)
    connection.set_retry(Retry(NoBackoff(), 1))  # a viewer would rather have zarr now than Redis in ten seconds
    catalog, hub = RunCatalog(settings.runs_dir, connection), EventHub(settings.redis_url)
    services = Services(
        settings=settings,
        connection=connection,
        catalog=catalog,
        maps=MapReader(settings.runs_dir),
        hub=hub,
        requests=RequestMetrics(catalog, hub),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await hub.start()
        tasks = [asyncio.create_task(_beat(connection), name="heartbeat")]
        if settings.serve.reports:
            folder = settings.data_dir / "reports"
            writer = write_reports(hub, catalog.status, services.maps, folder)
            tasks.append(asyncio.create_task(writer, name="reports"))
        try:
            yield
        finally:
            hub.close_streams()  # the reports' own stream ends with the viewers'
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=5)
            await hub.stop()
            connection.close()

    app = FastAPI(
        title="quietbeam",
        version=__version__,
        description="Live denoised X-ray fluorescence maps with their evidence.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = services
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    problems.install(app)
    for module in (about, runs, maps, values, events):
        app.include_router(module.router, prefix=API)
    app.include_router(health.router)
    dashboard.install(app)
    app.add_middleware(Guard, key=settings.serve_api_key(), anonymous_read=settings.serve.anonymous_read)
    app.add_middleware(Observe, requests=services.requests)
    app.add_middleware(SafeHeaders, version=__version__)
    app.add_middleware(Prefix, root_path=settings.serve.root_path.rstrip("/"))
    return app


class Prefix:
    """ASGI middleware: tells the application its path prefix, whether or not the proxy in front strips it."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "http" and self._root_path:
            scope = {**scope, "root_path": self._root_path}
        await self._app(scope, receive, send)


async def _beat(connection: Connection) -> None:
    while True:
        with suppress(redis.RedisError):  # the event reader logs outages; the next beat tries again
            await asyncio.to_thread(heartbeat, connection, "serve")
        await asyncio.sleep(HEARTBEAT_S)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version="1.0", description=app.description, routes=app.routes)
        schema["components"]["securitySchemes"] = {
            "ApiKey": {
                "type": "apiKey",
                "in": "header",
                "name": "Authorization",
                "description": "`Authorization: Apikey KEY`",
            },
            "Bearer": {"type": "http", "scheme": "bearer"},
        }
        schema["security"] = [{"ApiKey": []}, {"Bearer": []}]
        app.openapi_schema = schema
    return app.openapi_schema
