"""Requests that are never finished, and what stands in front of every address: prefix, HEAD, OPTIONS."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from serve_kit import HEADER, KEY, make_run, served, wait_for, with_serve

from browser.synthetic_run import SyntheticRun
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve import app as app_module
from quietbeam.serve import connections
from quietbeam.serve.routes import streams

PATHS = ("/", "/ui/js/main.js", "/ui/style.css", "/api/v1/about", "/api/v1/runs", "/healthz", "/readyz", "/metrics")
HALF = b"GET /api/v1/runs HTTP/1.1\r\nHost: x\r\nX-A: "


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    return make_run(settings, redis)


@contextmanager
def held(host: str, n: int, sent: bytes) -> Iterator[list[socket.socket]]:
    name, port = host.split(":")
    sockets = []
    for _ in range(n):
        one = socket.create_connection((name, int(port)), timeout=10)
        one.sendall(sent)
        sockets.append(one)
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


def is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("sent", [b"", HALF, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HALF], ids=repr)
def test_half_requests_do_not_keep_others_out(settings: Settings, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 60)
    with served(with_serve(settings, port=0)) as host, held(host, 150, sent):
        before = time.monotonic()
        assert httpx.get(f"http://{host}/healthz").status_code == 200
        assert httpx.get(f"http://{host}/api/v1/runs", headers=HEADER).status_code == 200
        assert time.monotonic() - before < 5


def test_a_half_request_ends(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    with served(with_serve(settings, port=0)) as host, held(host, 3, HALF) as sockets:
        begun = time.monotonic()
        while not all(is_closed(one) for one in sockets):
            for one in sockets:  # a byte now and then does not help
                try:
                    one.send(b"a")
                except OSError:
                    continue
            assert time.monotonic() - begun < 10
            time.sleep(0.05)


def test_a_slow_body_ends(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "BODY_S", 0.3)
    head = (
        f"POST /api/v1/auth/apikeys HTTP/1.1\r\nHost: x\r\nAuthorization: Apikey {KEY}\r\ncontent-length: 9\r\n\r\n{{"
    )
    with served(with_serve(settings, port=0)) as host, held(host, 1, head.encode()) as sockets:
        sockets[0].settimeout(10)
        assert b"408" in sockets[0].recv(65536).split(b"\r\n")[0]


def test_a_head_without_end_is_refused(settings: Settings) -> None:
    with served(with_serve(settings, port=0)) as host, held(host, 1, HALF) as sockets:
        sockets[0].settimeout(10)
        answer = b""
        try:
            for _ in range(100):
                sockets[0].sendall(b"a" * 8192)
            answer = sockets[0].recv(100)
        except OSError:
            pass
        assert not answer or b"431" in answer
        assert httpx.get(f"http://{host}/healthz").status_code == 200


def test_health_is_answered_when_nothing_else_is(
    settings: Settings, run: SyntheticRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "MAX_OPEN_REQUESTS", 2)
    follow = f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Apikey {KEY}\r\n\r\n".encode()
    with served(with_serve(settings, port=0)) as host:
        with held(host, 2, follow) as sockets:
            for one in sockets:
                assert b"200 OK" in one.recv(200)
            refused = httpx.get(f"http://{host}/api/v1/runs", headers=HEADER)
            assert refused.status_code == 503
            assert "too many" in refused.json()["detail"]
            assert httpx.get(f"http://{host}/healthz").status_code == 200
        wait_for(lambda: httpx.get(f"http://{host}/api/v1/runs", headers=HEADER).status_code == 200)


def test_websockets_without_a_key_are_few(
    settings: Settings, run: SyntheticRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_STRANGERS", 2)
    ask = (
        b"GET /api/v1/runs/run-1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with served(with_serve(settings, port=0)) as host, held(host, 3, ask) as sockets:
        answers = sorted(one.recv(200).split(b" ")[1] for one in sockets)
        assert answers == [b"101", b"101", b"503"]


@pytest.mark.parametrize("prefix", ["/xrf", "/api", "/ui", "/api/v2", "/a/b", "xrf/"])
def test_a_prefix_is_stripped_or_not(settings: Settings, run: SyntheticRun, prefix: str) -> None:
    def answers(host: str, before: str = "") -> dict[str, int]:
        return {path: httpx.get(f"http://{host}{before}{path}", headers=HEADER).status_code for path in PATHS}

    with served(with_serve(settings, port=0)) as host:
        right = answers(host)
    whole = "/" + prefix.strip("/")
    with served(with_serve(settings, port=0, root_path=prefix)) as host:
        assert answers(host) == answers(host, whole) == right
        links = httpx.get(f"http://{host}/api/v1/", headers=HEADER).json()["links"]
        assert links["latest"] == f"{whole}/api/v1/runs/latest"
        for path in ("/api/v1/runs", f"{whole}/api/v1/runs"):
            assert httpx.get(f"http://{host}{path}").status_code == 401


@pytest.mark.parametrize("prefix", ["/a/../b", "/a//b", "/a b", "/%2e", "/a?b"])
def test_a_prefix_that_is_none_is_refused(settings: Settings, prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        with_serve(settings, root_path=prefix)


def test_head_and_options(settings: Settings, run: SyntheticRun) -> None:
    with served(with_serve(settings, port=0)) as host:
        with httpx.Client(base_url=f"http://{host}", headers=HEADER, timeout=10) as client:
            paths = [*PATHS, "/api/v1/runs/run-1", "/api/v1/runs/run-1/maps/raw?format=npy", "/api/v1/runs/nobody"]
            for path in paths:
                got, head = client.get(path), client.head(path)
                assert (head.status_code, head.content) == (got.status_code, b"")
                assert head.headers["content-type"] == got.headers["content-type"]
            for path in ("/api/v1/events", "/api/v1/runs/run-1/events"):  # without end
                assert client.head(path).status_code == 200
            assert client.options("/api/v1/runs/run-1/pin").headers["allow"] == "DELETE, OPTIONS, PUT"
            assert client.options("/api/v1/nothing").status_code == 404
        for path in ("/", "/api/v1/runs", "/ui/style.css", "/healthz"):  # as load balancers ask
            answer = httpx.options(f"http://{host}{path}")
            assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
            assert "access-control-allow-origin" not in answer.headers
