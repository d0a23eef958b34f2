"""Maps over a websocket: a real server, a real websocket client, and Tiled's own subscription."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
from serve_kit import KEY, make_run, served, wait_for, with_serve
from tiled.client.stream import ArraySubscription
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from browser.synthetic_run import SyntheticRun
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection, emit
from quietbeam.serve.access import Scope
from quietbeam.serve.access.api_keys import KeyStore
from quietbeam.serve.live import hub, streams
from quietbeam.serve.routes import streams as routes

HEADER = {"Authorization": f"Apikey {KEY}"}
WAIT_S = 20


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_serve(settings, port=0)


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    return make_run(settings, redis)


@pytest.fixture
def host(settings: Settings, run: SyntheticRun) -> Iterator[str]:
    with served(settings) as host:
        yield host


def open_stream(
    host: str, query: str = "", *, headers: dict[str, str] | None = None, **options: Any
) -> ClientConnection:
    return connect(
        f"ws://{host}/api/v1/runs/run-1/stream{query}",
        additional_headers=HEADER if headers is None else headers,
        max_size=None,
        **options,
    )


def values_of(message: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(message["payload"], "<f4").reshape(message["shape"])


def test_maps_come_as_they_change_and_the_stream_ends_with_the_final_ones(host: str, run: SyntheticRun) -> None:
    with open_stream(host, "?envelope_format=msgpack") as socket:
        schema = msgpack.unpackb(socket.recv(WAIT_S))
        assert schema == {
            "type": "array-schema",
            "version": 1,
            "data_type": {"endianness": "little", "kind": "f", "itemsize": 4, "dt_units": None},
        }
        for final in (False, True):
            run.add_rows(2)
            run.denoise(final=final)
            if final:
                run.finish(RunState.INCOMPLETE)
            message = msgpack.unpackb(socket.recv(WAIT_S))
            assert (message["type"], message["sequence"]) == ("array-data", run.version)
            assert message["mimetype"] == "application/octet-stream" and message["timestamp"]
            maps = values_of(message)
            np.testing.assert_array_equal(maps[:, :7], run.buffer.read_map("denoised")[:, :7])
            assert np.isnan(maps[:, run.rows :]).all(), "not measured is NaN"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(WAIT_S)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000


def test_start_replays_the_versions_that_are_kept_and_json_has_null_where_nothing_is_measured(
    host: str, run: SyntheticRun
) -> None:
    run.add_rows(1)
    run.denoise()
    with open_stream(host, "?start=0") as socket:
        found = [json.loads(socket.recv(WAIT_S)) for _ in range(3)]
    assert [message["type"] for message in found] == ["array-schema", "array-data", "array-data"]
    assert [message["sequence"] for message in found[1:]] == [1, 2]
    assert found[1]["content-type"] == "application/json"
    assert found[1]["payload"][0][6] == [None] * 10 and found[2]["payload"][0][5][0] is not None
    with open_stream(host, "?start=2&kind=raw") as socket:
        found = [json.loads(socket.recv(WAIT_S)) for _ in range(2)]
        assert found[1]["sequence"] == 2
    with open_stream(host, "?start=1&kind=measured") as socket:
        schema, mask = (json.loads(socket.recv(WAIT_S)) for _ in range(2))
        assert schema["data_type"]["kind"] == "b" and mask["payload"][0] == [True] * 10


def test_tileds_own_subscription_reads_the_stream(host: str, run: SyntheticRun) -> None:
    with httpx.Client() as http:
        context: Any = SimpleNamespace(
            api_uri=httpx.URL(f"http://{host}/api/v1/"),
            http_client=http,
            api_key=KEY,
            server_info=SimpleNamespace(authentication=SimpleNamespace(providers=[])),
        )
        subscription = ArraySubscription(context, ["run-1", "denoised"])
        got: list[Any] = []
        ended = threading.Event()

        def new_data(update: Any) -> None:
            got.append((update.sequence, update.data()))

        def closed(_: Any) -> None:
            ended.set()

        subscription.new_data.add_callback(new_data)
        subscription.stream_closed.add_callback(closed)
        thread = threading.Thread(target=subscription.start, args=(0,), daemon=True)
        thread.start()
        wait_for(lambda: len(got) == 1)
        run.add_rows(3)
        run.denoise(final=True)
        run.finish(RunState.INCOMPLETE)
        assert ended.wait(WAIT_S)
        thread.join(WAIT_S)
    assert [sequence for sequence, _ in got] == [1, 2]
    np.testing.assert_array_equal(got[1][1][:, :6], run.buffer.read_map("denoised")[:, :6])


def test_a_late_reader_gets_the_newest_map_not_every_one(host: str, run: SyntheticRun, redis: Connection) -> None:
    with open_stream(host, "?envelope_format=msgpack") as socket:
        socket.recv(WAIT_S)
        for _ in range(40):
            run.denoise()
        got = []
        while not got or got[-1] < run.version:
            got.append(msgpack.unpackb(socket.recv(WAIT_S))["sequence"])
        assert got == sorted(set(got))


def test_a_deleted_run_ends_its_streams(host: str, run: SyntheticRun, redis: Connection) -> None:
    with open_stream(host) as socket:
        socket.recv(WAIT_S)
        run.buffer.path.rename(run.buffer.path.with_name(".deleted-run-1"))
        redis.delete(keys.run("run-1"))
        redis.zrem(keys.RUNS, "run-1")
        emit(redis, "run", "run-1", state="deleted")
        with pytest.raises(ConnectionClosed, match="deleted"):
            socket.recv(WAIT_S)


# --- who may listen -------------------------------------------------------------------------------------------------


def refused(host: str, query: str = "", path: str = "runs/run-1/stream", **headers: str) -> dict[str, Any]:
    """Return the problem that an opening is answered with."""
    with pytest.raises(InvalidStatus) as error:
        connect(f"ws://{host}/api/v1/{path}{query}", additional_headers={**HEADER, **headers})
    response = error.value.response
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(response.body or b"{}")
    assert found["status"] == response.status_code and "Traceback" not in str(found)
    return found


@pytest.mark.parametrize(
    ("path", "query", "status", "words"),
    [
        ("runs/nobody/stream", "", 404, "no run"),
        ("runs/run-1/stream", "?kind=spectra", 404, "there are raw"),
        ("runs/run-1/stream", "?start=-1", 422, "start"),
        ("runs/run-1/stream", "?start=soon", 422, "start"),
        ("runs/run-1/stream", "?envelope_format=xml", 422, "msgpack"),
        ("stream/single/run-1/spectra", "", 404, "there are raw"),
        ("stream/single/run-1", "", 404, "there are raw"),
        ("stream/single/nobody/raw", "", 404, "no run"),
    ],
)
def test_what_cannot_be_streamed_is_refused_as_everywhere(
    host: str, path: str, query: str, status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = refused(host, query, path)
    assert not caplog.records, "a refusal is no error of the server's"
    assert found["status"] == status and words in found["detail"]


def test_wrong_keys_scopes_and_pages_of_other_sites_are_refused(
    host: str, settings: Settings, run: SyntheticRun
) -> None:
    assert refused(host, Authorization="Apikey wrong")["status"] == 401
    secret, _ = KeyStore(settings.secrets_dir / "api_keys.json").create("eve", [Scope.READ_METADATA])
    assert "read:data" in refused(host, Authorization=f"Apikey {secret}")["detail"]
    for origin in ("http://evil.example", f"http://{host}.evil.example", "null", "http://localhost:1"):
        assert "another site" in refused(host, Origin=origin)["detail"]
    with open_stream(host, "?start=0", headers={**HEADER, "Origin": f"http://{host}"}) as socket:
        assert json.loads(socket.recv(WAIT_S))["type"] == "array-schema"


def test_a_page_streams_with_its_cookie_but_only_a_page_of_ours(host: str, run: SyntheticRun) -> None:
    with httpx.Client() as http:
        http.get(f"http://{host}/?api_key={KEY}")
        cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    with open_stream(host, "?start=0", headers={"Cookie": cookie, "Origin": f"http://{host}"}) as socket:
        assert json.loads(socket.recv(WAIT_S))["type"] == "array-schema"
    assert "another site" in refused(host, Cookie=cookie, Origin="http://evil.example", Authorization="")["detail"]


@pytest.mark.parametrize("name", ["api_key", "access_token"])
def test_the_first_message_can_say_who_one_is(host: str, run: SyntheticRun, name: str) -> None:
    with open_stream(host, "?start=0", headers={}) as socket:
        socket.send(json.dumps({"type": "auth", name: KEY}))
        assert json.loads(socket.recv(WAIT_S))["type"] == "array-schema"
        assert json.loads(socket.recv(WAIT_S))["sequence"] == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"type": "auth", "api_key": "wrong"}', 4003),
        ('{"type": "auth"}', 4001),
        ('{"type": "hello", "api_key": "x"}', 4001),
        ('{"type": "auth", "api_key": 7}', 4001),
        ("[]", 4001),
        ("no json", 4001),
    ],
)
def test_a_first_message_that_proves_nothing_ends_the_stream(host: str, message: str, code: int) -> None:
    with open_stream(host, headers={}) as socket:
        socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(WAIT_S)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == code


def test_after_the_first_message_an_unknown_run_and_a_key_that_may_not_are_told(host: str, settings: Settings) -> None:
    with connect(f"ws://{host}/api/v1/runs/nobody/stream") as socket:
        socket.send(json.dumps({"type": "auth", "api_key": KEY}))
        with pytest.raises(ConnectionClosed, match="no run"):
            socket.recv(WAIT_S)
    secret, _ = KeyStore(settings.secrets_dir / "api_keys.json").create("eve", [Scope.METRICS])
    with open_stream(host, headers={}) as socket:
        socket.send(json.dumps({"type": "auth", "api_key": secret}))
        with pytest.raises(ConnectionClosed, match="read:data"):
            socket.recv(WAIT_S)


def test_who_says_nothing_does_not_stay(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "AUTH_TIMEOUT_S", 0.2)
    with open_stream(host, headers={}) as socket, pytest.raises(ConnectionClosed, match="first message"):
        socket.recv(WAIT_S)


def test_everybody_may_listen_only_where_that_is_configured(settings: Settings, run: SyntheticRun) -> None:
    with (
        served(with_serve(settings, port=0, anonymous_read=True)) as host,
        open_stream(host, "?start=0", headers={}) as socket,
    ):
        assert json.loads(socket.recv(WAIT_S))["type"] == "array-schema"


def test_a_stream_is_found_behind_a_proxy_with_a_prefix(settings: Settings, run: SyntheticRun) -> None:
    with served(with_serve(settings, port=0, root_path="/xrf")) as host:
        for prefix in ("", "/xrf"):
            url = f"ws://{host}{prefix}/api/v1/runs/run-1/stream?start=0"
            with connect(url, additional_headers=HEADER) as socket:
                assert json.loads(socket.recv(WAIT_S))["type"] == "array-schema"


# --- bounded --------------------------------------------------------------------------------------------------------


def test_a_viewer_that_never_reads_is_dropped_and_costs_the_others_nothing(
    settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SEND_TIMEOUT_S", 0.5)
    run = SyntheticRun(settings.runs_dir, redis, uid="run-1", shape=(256, 256), lines=tuple("ABCDEFGH"))
    run.add_rows(256)
    run.denoise()
    with (
        served(settings) as host,
        open_stream(host, "?envelope_format=msgpack", max_queue=1) as deaf,
        open_stream(host, "?envelope_format=msgpack") as good,
    ):
        good.recv(WAIT_S)
        limit = time.monotonic() + 60
        while (
            "quietbeam_event_viewers_dropped_total 1.0" not in httpx.get(f"http://{host}/metrics", headers=HEADER).text
        ):
            assert time.monotonic() < limit, "nobody was dropped"
            run.version += 1
            runs.write_status(redis, "run-1", maps_version=run.version)
            emit(redis, "map", "run-1", version=run.version, rows=256, final=False)
            assert msgpack.unpackb(good.recv(WAIT_S))["sequence"] <= run.version
        assert deaf is not None


def test_a_map_too_large_for_json_is_refused_with_the_remedy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from quietbeam.serve.render import formats

    monkeypatch.setattr(formats, "MAX_TEXT_VALUES", 100)
    found = refused(host)
    assert found["status"] == 400 and "too many for json" in found["detail"]


def test_too_many_viewers_are_told_so(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_VIEWERS", 0)
    assert refused(host)["status"] == 503


def test_the_service_ends_its_streams_when_it_stops(settings: Settings, run: SyntheticRun) -> None:
    with served(settings) as host:
        socket = open_stream(host)
        socket.recv(WAIT_S)
    with socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(WAIT_S)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012, "clients come back after that"
