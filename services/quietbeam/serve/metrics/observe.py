"""What a request leaves behind: its duration in the metrics, its id in the answer and in the log."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..live.hub import EventHub
from ..state.catalog import RunCatalog
from .readings import Readings

_REQUEST_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


class RequestMetrics:
    """The service's own registry; declared once per app."""

    def __init__(self, catalog: RunCatalog, hub: EventHub, folder: Path) -> None:
        self.registry = CollectorRegistry()
        self.duration = Histogram(
            "quietbeam_request_duration_seconds",
            "Time to answer a request, event streams left out. Growing: too many viewers, or a slow disk.",
            ("method", "code", "endpoint"),
            registry=self.registry,
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
        )
        self.report_failures = Counter(
            "quietbeam_report_failures",
            "Reports that could not be written. Growing: read report_failed in the log of serve.",
            registry=self.registry,
        )
        self.task_failures = Counter(
            "quietbeam_background_task_failures",
            "Failures of tasks of serve beside its requests; each begins again. Growing: read background_task_failed.",
            ("task",),
            registry=self.registry,
        )
        self.task_failures.labels("event-reader")  # 0 is shown, too, so that rates have a beginning
        self.registry.register(Readings(catalog, hub, folder))

    def count_task_failure(self, task: str) -> None:
        """Count a failure of a task beside the requests."""
        self.task_failures.labels(task).inc()

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self.registry)


class Observe:
    """ASGI middleware: measures every request by its route, never by its path (run uids are no labels)."""

    def __init__(self, app: ASGIApp, requests: RequestMetrics) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["server-timing"] = f"app;dur={1000 * (time.perf_counter() - started):.1f}"
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, receive, watch)
        finally:
            endpoint = _endpoint(scope)
            if not endpoint.endswith("/events"):
                method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "DELETE") else "other"
                self._requests.duration.labels(method, str(status), endpoint).observe(time.perf_counter() - started)


def _request_id(scope: Scope) -> str:
    """Return the caller's id of the request where it is a plain one, else a new one; it is in every line of the log."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else uuid.uuid4().hex[:16]


def _endpoint(scope: Scope) -> str:
    """Return the template of the route that answered; FastAPI keeps it without the router's prefix."""
    template: str = getattr(scope.get("route"), "path_format", "")
    if not template:
        return "other"
    if "/api/v1" in scope["path"] and not template.startswith("/api/v1"):
        return f"/api/v1{template}"
    return template
