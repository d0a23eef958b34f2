"""The event stream over a real server: resuming, viewers that do not read, Redis that goes away, the end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from browser.synthetic_run import SyntheticRun  # tests/ is on the path: tests/conftest.py
from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import ServeSettings, Settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection, connect, emit
from quietbeam.serve.live import hub
from quietbeam.serve.server import Server, bind, make_server

KEY = "key-of-the-test"
HEADER = {"Authorization": f"Apikey {KEY}"}


@dataclass
class Running:
    server: Server
    thread: threading.Thread
    url: str

    @property
    def hub(self) -> hub.EventHub:
        app: Any = self.server.config.app
        return app.state.services.hub

    def stop(self, within_s: float = 10) -> None:
        self.server.should_exit = True
        self.thread.join(within_s)
        assert not self.thread.is_alive(), "the service did not end"


def until(predicate: Callable[[], object], what: str, within_s: float = 15) -> None:
    done = threading.Event()
    for _ in range(int(within_s * 100)):
        if predicate():
            return
        done.wait(0.01)
    pytest.fail(f"{what} did not come true within {within_s} s")


@contextmanager
def serving(settings: Settings) -> Iterator[Running]:
    server = make_server(settings)
    listener = bind(settings.serve)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    running = Running(server, thread, f"http://127.0.0.1:{listener.getsockname()[1]}")
    until(lambda: running.hub.connected, "the event reader's connection")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"serve": ServeSettings(port=0, api_key=KEY)})  # type: ignore[arg-type]


@pytest.fixture
def service(settings: Settings) -> Iterator[Running]:
    with serving(settings) as running:
        yield running


@asynccontextmanager
async def stream(
    url: str, path: str = "events", last_id: str | None = None
) -> AsyncIterator[AsyncIterator[tuple[str, str, Any]]]:
    """Yield an iterator of (type, id, data)."""
    headers = {**HEADER, **({"Last-Event-ID": last_id} if last_id else {})}
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", f"{url}/api/v1/{path}", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"

        async def frames() -> AsyncIterator[tuple[str, str, Any]]:
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif fields:
                    yield fields.get("event", ""), fields.get("id", ""), json.loads(fields.get("data", "null"))
                    fields = {}

        yield frames()


async def take(frames: AsyncIterator[tuple[str, str, Any]], n: int) -> list[tuple[str, str, Any]]:
    async with asyncio.timeout(15):
        return [await anext(frames) for _ in range(n)]


async def test_events_come_in_order_with_the_stream_id(service: Running, redis: Connection) -> None:
    async with stream(service.url) as frames:
        [hello] = await take(frames, 1)
        assert hello[0] == "hello"
        for n in range(20):
            emit(redis, "row", "run-1", row=n)
        got = await take(frames, 20)
    assert [(kind, data) for kind, _, data in got] == [("row", {"row": n, "run": "run-1"}) for n in range(20)]
    assert [i for _, i, _ in got] == [i.decode() for i, _ in redis.xrange(keys.EVENTS)]


async def test_a_viewer_that_comes_back_gets_exactly_what_it_missed(service: Running, redis: Connection) -> None:
    async with stream(service.url) as frames:
        await take(frames, 1)
        for n in range(3):
            emit(redis, "row", "run-1", row=n)
        last = (await take(frames, 3))[-1][1]
    for n in range(3, 700):
        emit(redis, "row", "run-1", row=n)
    async with stream(service.url, last_id=last) as frames:
        got = await take(frames, 1 + 697)
    assert got[0][:2] == ("hello", last)
    assert [data["row"] for _, _, data in got[1:]] == list(range(3, 700))


async def test_a_viewer_resumes_on_another_process_from_redis(
    settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(600):
        emit(redis, "row", "run-1", row=n)
    first = redis.xrange(keys.EVENTS, count=1)[0][0].decode()
    with serving(settings) as running:
        async with stream(running.url, last_id=first) as frames:
            got = await take(frames, 600)
    assert [data["row"] for kind, _, data in got if kind == "row"] == list(range(1, 600))


async def test_a_viewer_whose_events_are_gone_is_told_to_read_the_states(service: Running, redis: Connection) -> None:
    first = redis.xadd(keys.EVENTS, {"type": "row", "run": "r", "data": "{}"}).decode()
    for _ in range(10):
        emit(redis, "row", "r")
    newest = redis.xrevrange(keys.EVENTS, count=1)[0][0].decode()
    await asyncio.to_thread(until, lambda: str(service.hub._newest) == newest, "all events read")
    redis.xtrim(keys.EVENTS, maxlen=2, approximate=False)
    service.hub._recent.clear()
    service.hub._floor = service.hub._newest  # as after a restart of the service
    async with stream(service.url, last_id=first) as frames:
        got = await take(frames, 2)
    assert [kind for kind, _, _ in got] == ["reset", "hello"]
    async with stream(service.url, last_id="99999999999999-0") as frames:
        got = await take(frames, 2)
    assert [kind for kind, _, _ in got] == ["reset", "hello"]


async def test_a_stream_of_one_run_holds_that_run_only(service: Running, settings: Settings, redis: Connection) -> None:
    SyntheticRun(settings.runs_dir, redis, uid="mine", shape=(3, 3), lines=("Fe_Ka",))
    async with stream(service.url, "runs/latest/events") as frames:
        await take(frames, 1)
        emit(redis, "row", "other", row=1)
        emit(redis, "row", "mine", row=2)
        [event] = await take(frames, 1)
    assert event[2] == {"row": 2, "run": "mine"}


async def test_heartbeats_tell_that_nothing_happened(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HEARTBEAT_S", 0.05)
    async with stream(service.url) as frames:
        got = await take(frames, 3)
    assert [kind for kind, _, _ in got] == ["hello", "heartbeat", "heartbeat"]
    assert got[1][2]["redis"] is True


@pytest.mark.parametrize("last_id", ["yesterday", "1-2-3", "-5"])
def test_a_bad_last_event_id_is_refused(service: Running, last_id: str) -> None:
    answer = httpx.get(f"{service.url}/api/v1/events", headers={**HEADER, "Last-Event-ID": last_id})
    assert answer.status_code == 400
    assert "Last-Event-ID" in answer.json()["detail"]


async def test_a_viewer_that_never_reads_is_dropped_and_harms_nobody(
    service: Running, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SEND_TIMEOUT_S", 0.3)
    port = int(service.url.rsplit(":", 1)[1])
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", port))
    lazy.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Apikey {KEY}\r\n\r\n".encode())
    await asyncio.to_thread(until, lambda: service.hub.viewers == 1, "the lazy viewer")
    async with stream(service.url) as frames:
        await take(frames, 1)
        sent = 0
        while service.hub.dropped == 0:
            with redis.pipeline(transaction=False) as pipe:
                for _ in range(100):
                    pipe.xadd(keys.EVENTS, {"type": "row", "run": "r", "data": json.dumps({"n": "x" * 2000})})
                pipe.execute()
            sent += 100
            got = await take(frames, 100)
            assert [kind for kind, _, _ in got] == ["row"] * 100
            assert sent < 50_000, "the lazy viewer was never dropped"
        assert len(service.hub._recent) <= hub.RECENT
    lazy.close()
    await asyncio.to_thread(until, lambda: service.hub.viewers == 0, "every viewer gone")


def test_there_is_a_limit_of_viewers(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_VIEWERS", 0)
    answer = httpx.get(f"{service.url}/api/v1/events", headers=HEADER)
    assert answer.status_code == 503
    assert "viewers" in answer.json()["detail"]


async def test_a_stream_goes_on_when_redis_was_away(settings: Settings, valkey_process: Any) -> None:
    away = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": valkey_process.url})})
    with serving(away) as running:
        client = connect(valkey_process.url)
        async with stream(running.url) as frames:
            await take(frames, 1)
            emit(client, "row", "r", row=1)
            assert (await take(frames, 1))[0][2]["row"] == 1
            client.config_set("appendfsync", "always")
            emit(client, "row", "r", row=2)
            assert (await take(frames, 1))[0][2]["row"] == 2
            valkey_process.kill()
            await asyncio.to_thread(until, lambda: not running.hub.connected, "the loss noticed")
            answer = await asyncio.to_thread(httpx.get, f"{running.url}/readyz")
            assert answer.status_code == 503
            await asyncio.to_thread(valkey_process.start)
            await asyncio.to_thread(until, lambda: running.hub.connected, "the connection back")
            emit(client, "row", "r", row=3)
            got = [frame for frame in await take(frames, 1) if frame[0] == "row"]
        assert got[0][2]["row"] == 3
        client.close()


async def test_the_service_ends_at_once_although_viewers_look(settings: Settings) -> None:
    with serving(settings) as running:
        async with stream(running.url) as frames:
            await take(frames, 1)
            running.server.should_exit = True
            async with asyncio.timeout(4):
                async for _ in frames:
                    pass
        await asyncio.to_thread(running.stop, 4)


def test_a_port_in_use_is_a_sentence(service: Running, settings: Settings) -> None:
    port = int(service.url.rsplit(":", 1)[1])
    with pytest.raises(ServiceError, match=r"serve\.port"):
        bind(settings.serve.model_copy(update={"port": port}))
