"""The application: everything put together around one Redis client and one event reader."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import redis
import structlog
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from redis.backoff import NoBackoff
from redis.retry import Retry

from quietbeam.core.process.outage import redis_outage
from quietbeam.core.process.stage import HEARTBEAT_S, heartbeat
from quietbeam.core.settings import RedisSettings, Settings
from quietbeam.core.version import __version__
from quietbeam.core.wire.bus import Connection, connect

from . import problems
from .access import Authenticator, BodyLimit, Guard, SafeHeaders, closed_by_default, declared_scopes
from .access.api_keys import KeyStore
from .access.oidc import Issuer
from .background import keep_running
from .front import Admission, Methods, Prefix
from .live.hub import EventHub
from .metrics.observe import Observe, RequestMetrics
from .openapi import make_document
from .report.writer import ReportWriter
from .routes import (
    about,
    actions,
    auth,
    clusters,
    dashboard,
    events,
    evidence,
    health,
    maps,
    pairs,
    regions,
    report,
    runs,
    streams,
    units,
    values,
)
from .services import API, API_VERSION, Services
from .state.catalog import RunCatalog
from .state.damage_watch import DamageWatch
from .state.maps import MapReader
from .state.regions import RegionStore
from .state.units import UnitTable

log = structlog.get_logger()

MAX_BODY_BYTES = 64 * 2**10
MAX_OPEN_REQUESTS = 1024
BODY_S = 30.0
"""A request's body must be complete after this time."""


def create_app(settings: Settings) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    settings
        All settings; `serve` is ours, `runs_dir` and `redis_url` are read.
    """
    connection = connect(settings.redis_url)
    connection.set_retry(Retry(NoBackoff(), 1))  # a viewer would rather have zarr now than Redis in ten seconds
    maps_of_runs = MapReader(settings.runs_dir)
    catalog, hub = RunCatalog(settings.runs_dir, connection), EventHub(settings.redis_url)
    services = Services(
        settings=settings,
        connection=connection,
        catalog=catalog,
        maps=maps_of_runs,
        units=UnitTable(settings.quantify.calibration, settings.calibrations_dir, maps_of_runs),
        regions=RegionStore(settings.runs_dir),
        hub=hub,
        requests=RequestMetrics(catalog, hub, settings.data_dir),
        authenticator=Authenticator(
            settings.serve_api_key(),
            KeyStore(settings.secrets_dir / "api_keys.json"),
            Issuer(settings.serve.oidc, settings.network) if settings.serve.oidc else None,
        ),
    )

    failed_task = hub.count_failure = services.requests.count_task_failure

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(_nothing)  # loads what the first request would wait for
        await hub.start()
        watched: list[tuple[str, Callable[[], Awaitable[None]]]] = [("heartbeat", lambda: _beat(connection, catalog))]
        watched.append(("damage-watch", DamageWatch(settings.runs_dir, catalog).run))
        if settings.serve.reports:
            folder = settings.data_dir / "reports"
            failed = services.requests.report_failures.inc
            writer = ReportWriter(hub, catalog.status, services.maps, folder, failed, services.units)
            watched.append(("reports", writer.run))
        tasks = [
            asyncio.create_task(keep_running(name, task, failed_task, is_closing=lambda: hub.closing), name=name)
            for name, task in watched
        ]
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
        dependencies=[Depends(closed_by_default)],
    )
    app.state.services = services
    app.state.scopes = {}
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    problems.install(app)
    numbers = (maps, values, units, regions, pairs, clusters)
    for module in (about, auth, runs, evidence, report, *numbers, events, actions, streams):
        _include(app, module.router, API)
    _include(app, health.router, "")
    dashboard.install(app)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, patience_s=BODY_S)
    app.add_middleware(Guard, authenticator=services.authenticator, anonymous_read=settings.serve.anonymous_read)
    app.add_middleware(Observe, requests=services.requests)
    app.add_middleware(SafeHeaders, version=__version__, api_version=API_VERSION)
    app.add_middleware(Methods, places=app.state.scopes)
    app.add_middleware(Admission, limit=MAX_OPEN_REQUESTS)
    parts = {path.split("/")[1] for _, path in app.state.scopes} | {"", "ui"}
    app.add_middleware(Prefix, root_path=settings.serve.root_path, first_parts=parts)
    return app


def _nothing() -> None:
    """Do nothing, in a thread of the pool."""


def _include(app: FastAPI, router: APIRouter, prefix: str) -> None:
    """Add the addresses of a router, and to the table of scopes what each needs (None: open to all)."""
    for route in router.routes:
        if isinstance(route, APIRoute | APIWebSocketRoute):
            for method in getattr(route, "methods", ("WEBSOCKET",)):
                app.state.scopes[method, prefix + route.path] = declared_scopes(route)
    app.include_router(router, prefix=prefix)


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = make_document(app, API_VERSION)
    return app.openapi_schema


def openapi_json() -> str:
    """Return the OpenAPI document as ``docs/reference/openapi.json`` keeps it; touches no server and no data folder."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), redis=RedisSettings(url=f"unix://{folder}/none"))
        return json.dumps(create_app(settings).openapi(), indent=1, sort_keys=True) + "\n"


async def _beat(connection: Connection, catalog: RunCatalog) -> None:
    while True:
        refusal = ""
        try:
            await asyncio.to_thread(heartbeat, connection, "serve")
        except redis.ResponseError as error:
            refusal = redis_outage(error)
        except redis.RedisError:  # the event reader logs outages; the next beat tries again
            pass
        if refusal and not catalog.refusal:
            log.warning("redis_refuses", waits_for=f"{refusal}. Every stage waits for that, and retries.")
        catalog.refusal = refusal
        await asyncio.sleep(HEARTBEAT_S)
