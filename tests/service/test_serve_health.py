"""Headers, the prefix of a proxy, health and metrics of the API: over ASGI, with a real Valkey."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
from serve_kit import HEADER, KEY, attributes, make_run, stack, with_serve
from starlette.testclient import TestClient

from browser.synthetic_run import SyntheticRun
from quietbeam.app import doctor_servers
from quietbeam.app.damaged_runs import examine_runs
from quietbeam.buffer import RunBuffer
from quietbeam.core.model.types import RunState
from quietbeam.core.process.stage import heartbeat
from quietbeam.core.settings import ServeSettings, Settings
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.denoiser.live.failures import Failures, explain
from quietbeam.ingest.stage.recovery import show_buffer
from quietbeam.publish.provenance import container_metadata
from quietbeam.serve import create_app
from quietbeam.serve.state.catalog import RunCatalog


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_serve(settings)


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    return make_run(settings, redis)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=HEADER, raise_server_exceptions=False) as client:
        yield client


def test_every_answer_carries_the_headers_that_keep_a_browser_safe(client: TestClient, run: SyntheticRun) -> None:
    for path in ("/", "/ui/js/main.js", "/api/v1/runs", "/api/v1/runs/nobody", "/healthz", "/nothing"):
        headers = client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"]


def test_files_outside_the_dashboard_are_not_served(client: TestClient) -> None:
    for path in ("/ui/../app.py", "/ui/%2e%2e/app.py", "/ui/..%2fapp.py", "/ui/", "/ui/js"):
        assert client.get(path).status_code == 404


def test_links_carry_the_prefix_of_a_proxy(settings: Settings, run: SyntheticRun) -> None:
    behind = settings.model_copy(update={"serve": ServeSettings(api_key=KEY, root_path="/xrf/")})  # type: ignore[arg-type]
    with TestClient(create_app(behind), headers=HEADER, follow_redirects=False) as client:
        for prefix in ("", "/xrf"):  # proxies that strip the prefix, and ones that do not
            assert client.get(f"{prefix}/api/v1/").json()["links"]["latest"] == "/xrf/api/v1/runs/latest"
        answer = client.get(f"/?api_key={KEY}")
        assert answer.headers["location"] == "/xrf/"
        assert "Path=/xrf" in answer.headers["set-cookie"]


def test_a_failure_of_the_denoiser_is_said_wherever_people_look(
    settings: Settings, redis: Connection, client: TestClient
) -> None:
    run = make_run(settings, redis)
    why = explain(run.uid, RuntimeError("CUDA out of memory"))
    failed = {"denoise_state": "failed", "denoise_reason": why, "denoise_failure": why}
    runs.write_status(redis, run.uid, **failed)
    failures = Failures()
    failures.add(run.uid, why)
    heartbeat(redis, "worker", state="degraded", detail=failures.reason)

    found = attributes(client, run.uid)
    assert found["denoise"]["state"] == "failed" and found["warnings"][-1] == why
    assert client.get("/api/v1/runs").json()["data"][0]["attributes"]["warnings"][-1] == why
    assert why in client.get("/readyz").json()["reasons"]
    assert "too little memory" in client.get(f"/api/v1/runs/{run.uid}/report").text
    assert next((f.verdict, f.found) for f in examine_runs(settings, repair=False)) == ("warning", why)
    assert why in [f.found for f in doctor_servers.stages(settings)]
    assert why in container_metadata(settings, run.info, runs.read_status(redis, run.uid), {})["warnings"]

    RunBuffer.open(settings.runs_dir, run.uid, writable=True).update_map_attributes(final=True, failure=why)
    redis.delete(keys.run(run.uid))
    assert attributes(client, run.uid)["denoise"]["state"] == "failed", "the disk knows it, too"
    show_buffer(redis, RunBuffer.open(settings.runs_dir, run.uid))
    assert runs.read_status(redis, run.uid).denoise_failure == ""  # of a run that goes on, everything is made anew
    RunBuffer.open(settings.runs_dir, run.uid, writable=True).update_state({"state": "complete"})
    show_buffer(redis, RunBuffer.open(settings.runs_dir, run.uid))
    assert runs.read_status(redis, run.uid).denoise_failure == why


def test_readiness_says_when_redis_refuses_writes(
    settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quietbeam.serve.app.HEARTBEAT_S", 0.05)
    redis.config_set("min-replicas-to-write", "1")
    try:
        with TestClient(create_app(settings), headers=HEADER) as client:
            deadline = time.monotonic() + 10
            while "too few replicas" not in " ".join((answer := client.get("/readyz")).json()["reasons"]):
                assert time.monotonic() < deadline, answer.text
            assert "retries" in answer.text and "silent" not in " ".join(answer.json()["reasons"])
            found = {f.check: f for f in doctor_servers.redis_server(settings)}
            assert found["Redis writes"].verdict == "failure" and "too few replicas" in found["Redis writes"].found
            redis.config_set("min-replicas-to-write", "0")
            while "replicas" in (answer := client.get("/readyz")).text:
                assert time.monotonic() < deadline, answer.text
            heartbeat(redis, "ingest", state="degraded", detail="Cannot write to /data: no space left. Ingest retries.")
            assert [f.found for f in doctor_servers.stages(settings)] == [
                "Cannot write to /data: no space left. Ingest retries."
            ]
    finally:
        redis.config_set("min-replicas-to-write", "0")


def test_readiness_names_the_silent_stages(client: TestClient, redis: Connection, run: SyntheticRun) -> None:
    body = client.get("/readyz").json()
    assert "stage worker is silent" in " ".join(body["reasons"])
    for name in ("ingest", "worker", "publish"):
        heartbeat(redis, name)
    deadline = time.monotonic() + 10
    while (answer := client.get("/readyz")).json()["status"] != "ready":
        assert time.monotonic() < deadline, answer.text
    assert answer.json()["reasons"] == []
    assert answer.json()["stages"]["serve"] == "ready"
    heartbeat(redis, "publish", state="degraded", detail="Tiled does not answer: maps are kept here")
    assert client.get("/readyz").json()["reasons"] == ["Tiled does not answer: maps are kept here"]


def test_metrics_are_prometheus_text_without_run_uids(client: TestClient, redis: Connection, run: SyntheticRun) -> None:
    metrics.count(redis, "quietbeam_rows_committed_total", 42)
    heartbeat(redis, "ingest")
    client.get("/api/v1/runs/run-1")
    client.get("/api/v1/runs/run-1/maps/raw")
    client.get("/api/v1/wp-login.php")
    text = client.get("/metrics").text
    assert "quietbeam_rows_committed_total 42.0" in text
    assert 'quietbeam_stage_up{stage="ingest"} 1.0' in text
    assert 'quietbeam_stage_up{stage="worker"} 0.0' in text
    assert 'endpoint="/api/v1/runs/{uid}/maps/{kind}"' in text
    assert "run-1" not in text
    assert "wp-login" not in text


def test_an_error_inside_names_the_line_of_the_log_and_nothing_else(
    settings: Settings, run: SyntheticRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/secret/path is broken")

    monkeypatch.setattr(RunCatalog, "page", broken)
    with (
        TestClient(create_app(settings), headers=HEADER, raise_server_exceptions=False) as client,
        structlog.testing.capture_logs() as log,
    ):
        answer = client.get("/api/v1/runs", headers={"X-Request-ID": "proxy-7"})
        assert answer.status_code == 500 and answer.headers["x-request-id"] == "proxy-7"
        assert answer.json()["detail"] == "an error inside quietbeam; its log has the details at request_id proxy-7"
        assert [line["request_id"] for line in log if line["event"] == "request_failed"] == ["proxy-7"]
        made = client.get("/healthz", headers={"X-Request-ID": "not one\tof ours"}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", made)


def test_without_redis_everything_is_read_from_the_buffers(
    settings: Settings, run: SyntheticRun, redis: Connection, tmp_path: Path
) -> None:
    run.finish(RunState.INCOMPLETE, "5 rows are missing")
    alone = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": f"unix://{tmp_path}/none"})})
    with TestClient(create_app(alone), headers=HEADER) as client:
        found = attributes(client)
        assert (found["uid"], found["state"], found["reason"]) == ("run-1", "incomplete", "5 rows are missing")
        assert found["progress"]["pixels_measured"] == 74
        assert found["evidence"]["lines"][0]["dwell_gain"] > 1
        assert np.isfinite(stack(client, "denoised")).sum() == 3 * 60
        assert client.get("/api/v1/runs?state=incomplete").json()["meta"]["count"] == 1
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "Redis does not answer" in answer.json()["reasons"][0]
        assert "quietbeam_redis_up 0.0" in client.get("/metrics").text


def test_a_run_that_redis_forgot_is_read_from_its_buffer(
    client: TestClient, run: SyntheticRun, redis: Connection
) -> None:
    redis.flushall()
    assert attributes(client)["progress"]["rows_measured"] == 7
    assert [entry["id"] for entry in client.get("/api/v1/runs").json()["data"]] == ["run-1"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/", "/api/v1/runs", "/ui/style.css", "/nothing"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    whole, head = client.get(path), client.head(path)
    assert head.status_code == whole.status_code and head.content == b""
    assert head.headers.get("content-type") == whole.headers.get("content-type")
