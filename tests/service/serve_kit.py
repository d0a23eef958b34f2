"""What tests of the API share: the key, a run of 12 x 10 pixels, a look at a refusal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import numpy as np
from starlette.testclient import TestClient

from browser.synthetic_run import SyntheticRun  # tests/ is on the path: tests/conftest.py
from quietbeam.core.settings import ServeSettings, Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve.server import bind, make_server

KEY = "key-of-the-test"
HEADER = {"Authorization": f"Apikey {KEY}"}
LINES = ("Ca_Ka", "Fe_Ka", "Zn_Ka")


def with_serve(settings: Settings, **values: object) -> Settings:
    """Settings with the key of the tests, and other settings of `serve`."""
    serve = ServeSettings.model_validate({"api_key": KEY, **values})
    return settings.model_copy(update={"serve": serve})


def make_run(settings: Settings, redis: Connection, uid: str = "run-1") -> SyntheticRun:
    """A run of 12 x 10 pixels: 6 rows denoised, a 7th measured, an 8th half measured."""
    run = SyntheticRun(settings.runs_dir, redis, uid=uid, shape=(12, 10), lines=LINES, time_start=time.time() - 60)
    run.add_rows(6)
    run.denoise()
    run.add_rows(1)
    run.add_rows(1, cols=4)
    return run


def attributes(client: TestClient, uid: str = "latest") -> dict:
    """Return the attributes of a run as the API gives them."""
    return client.get(f"/api/v1/runs/{uid}").raise_for_status().json()["data"]["attributes"]


def stack(client: TestClient, kind: str, query: str = "") -> np.ndarray:
    """All lines of one kind of map of the newest run."""
    answer = client.get(f"/api/v1/runs/latest/maps/{kind}?format=octet-stream{query}").raise_for_status()
    shape = tuple(map(int, answer.headers["x-shape"].split(",")))
    return np.frombuffer(answer.content, answer.headers["x-dtype"]).reshape(shape)


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """Run a real server on a free port; give its host and port."""
    server = make_server(settings)
    listener = bind(settings.serve)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def wait_for(condition: Callable[[], object], timeout_s: float = 20) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "timed out"
        time.sleep(0.01)


def problem(answer: httpx.Response, status: int) -> str:
    """Return the sentence of a refusal; it is well formed and leaks nothing."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    for leak in ("Traceback", ".py", "/tmp", "zarr.json"):
        assert leak not in answer.text
    detail: str = body["detail"]
    return detail
