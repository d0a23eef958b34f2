"""Clients that follow a run: any text in an event, and restarts of the service in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from serve_kit import KEY, make_run, wait_for, with_serve

from browser.conftest import Dashboard
from browser.synthetic_run import SyntheticRun
from quietbeam.client import Client
from quietbeam.client import stream as stream_module
from quietbeam.client.events import parse_events
from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection, emit

TEXTS = [
    "motor stalled\x85 try again",
    "first\u2028second\u2029third",
    "a\r\nb\rc\n\nd",
    "\x0b\x0c\x1c\x1d\x1e",
    "event: x\ndata: y\n\n",
    " blanks around ",
    "\0 nul, \ufeff mark, \U0001f52c, \ud83d half".encode("utf-8", "replace").decode(),
    ":",
]


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    return make_run(settings, redis)


@pytest.fixture
def service(settings: Settings, run: SyntheticRun) -> Iterator[Dashboard]:
    service = Dashboard(with_serve(settings, port=0))
    yield service
    service.stop()


@pytest.fixture
def client(service: Dashboard) -> Iterator[Client]:
    with Client(service.url, KEY) as client:
        wait_for(lambda: answers(client))
        yield client


def answers(client: Client) -> bool:
    try:
        return bool(client.runs())
    except NotMeasuredError:
        return False


def in_background(follow: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


def test_every_text_comes_as_it_was_sent(client: Client, redis: Connection) -> None:
    heard: list[str] = []

    def listen() -> None:
        for event in client.events():
            if event["type"] == "hello":
                for text in TEXTS:
                    emit(redis, "warning", "run-1", name="ingest", reason=text)
            elif event["type"] == "warning":
                heard.append(event["reason"])
                if len(heard) == len(TEXTS):
                    return

    in_background(listen).join(20)
    assert heard == TEXTS


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_an_event_may_come_in_pieces(size: int) -> None:
    sent = 'id: 1-0\r\nevent: map\ndata: {"a": "µ\u2028"}\r\n\r\n: comment\n\ndata: 5\n\nevent: lost\n\n'.encode()
    pieces = [sent[i : i + size] for i in range(0, len(sent), size)]
    assert list(parse_events(pieces)) == [
        {"type": "map", "id": "1-0", "a": "µ\u2028"},
        {"type": "message", "value": 5},
    ]


def test_a_run_is_followed_over_a_restart(client: Client, service: Dashboard, run: SyntheticRun) -> None:
    seen: list[dict[str, Any]] = []

    def follow() -> None:
        for event in client.run("run-1").follow():
            seen.append(event)  # noqa: PERF402 (it is looked at meanwhile)

    thread = in_background(follow)
    wait_for(lambda: [event["type"] for event in seen].count("hello") == 1)
    run.add_rows(1)
    wait_for(lambda: any(event["type"] == "row" for event in seen))
    service.stop()
    run.add_rows(1)  # while nobody serves
    time.sleep(0.3)
    assert thread.is_alive()
    service.start()
    wait_for(lambda: [event["type"] for event in seen].count("row") >= 2, 30)
    run.add_rows(2)
    run.denoise(final=True)
    run.finish()
    thread.join(20)
    assert not thread.is_alive()
    ids = [event["id"] for event in seen if event["type"] in ("row", "map", "run")]
    assert len(ids) == len(set(ids)), "nothing comes twice"


def test_maps_are_streamed_over_a_restart(
    client: Client, service: Dashboard, run: SyntheticRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_WAIT_S", 0.2)
    versions: list[int] = []

    def follow() -> None:
        for maps in client.run("run-1").stream(start=0):
            versions.append(maps.attrs["version"])  # noqa: PERF401 (it is looked at meanwhile)

    thread = in_background(follow)
    wait_for(lambda: versions)
    service.stop()
    run.add_rows(1)
    run.denoise()
    service.start()
    wait_for(lambda: len(versions) > 1, 30)
    run.add_rows(3)
    run.denoise(final=True)
    run.finish()
    thread.join(20)
    assert not thread.is_alive()
    assert versions == sorted(set(versions))


def test_a_service_that_never_answered_is_not_waited_for() -> None:
    begun = time.monotonic()
    with Client("http://127.0.0.1:9", timeout_s=1) as other, pytest.raises(NotMeasuredError, match="does not answer"):
        next(other.events())
    assert time.monotonic() - begun < 5
