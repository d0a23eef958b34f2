"""Metrics of the service and of the stages behind it, in Prometheus' text form."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quietbeam.core import keys, metrics
from quietbeam.core.bus import Connection

from .catalog import RunCatalog
from .events import EventHub

_REQUEST_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
STAGES = ("ingest", "worker", "publish", "serve")


def read_stages(connection: Connection) -> dict[str, dict[str, str]]:
    """Return the heartbeat of every stage; empty for one that is silent."""
    with connection.pipeline(transaction=False) as pipe:
        for name in STAGES:
            pipe.hgetall(keys.stage(name))
        replies: list[Any] = pipe.execute()
    return {
        name: {k.decode(): v.decode() for k, v in reply.items()} for name, reply in zip(STAGES, replies, strict=True)
    }


class RequestMetrics:
    """The service's own registry; declared once per app."""

    def __init__(self, catalog: RunCatalog, hub: EventHub) -> None:
        self.registry = CollectorRegistry()
        self.duration = Histogram(
            "quietbeam_request_duration_seconds",
            "Time to answer a request, event streams left out. Growing: too many viewers, or a slow disk.",
            ("method", "code", "endpoint"),
            registry=self.registry,
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
        )
        self._catalog, self._hub = catalog, hub
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Yield what is read at the moment of asking."""
        up = self._catalog.redis_answers()
        yield GaugeMetricFamily("quietbeam_redis_up", "1 when Redis answers. 0: start it; nothing live moves.", up)
        yield GaugeMetricFamily("quietbeam_event_viewers", "Open event streams.", self._hub.viewers)
        yield CounterMetricFamily(
            "quietbeam_event_viewers_dropped", "Viewers dropped because they stopped reading.", self._hub.dropped
        )
        stages: dict[str, dict[str, str]] = self._catalog.ask(read_stages, {})
        family = GaugeMetricFamily("quietbeam_stage_up", "1 while a stage sends heartbeats.", labels=("stage",))
        for name in STAGES:
            family.add_metric((name,), 1.0 if stages.get(name) else 0.0)
        yield family
        nothing: dict[str, float] = {}
        for name, value in self._catalog.ask(metrics.read, nothing).items():
            declared = metrics.METRICS[name]
            kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
            yield kind(name, declared.help, value)

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
    template: str = getattr(scope.get("route"), "path", "")
    if not template:
        return "other"
    if "/api/v1" in scope["path"] and not template.startswith("/api/v1"):
        return f"/api/v1{template}"
    return template
