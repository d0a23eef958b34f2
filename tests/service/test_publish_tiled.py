"""Publishing to a real Tiled server: live updates over its websocket, final arrays, outages, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from damage_kit import damaged_runs
from publish_kit import KEY, LINES, SHAPE, Run, TiledProcess, turn, wait_until

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings, TiledSettings
from quietbeam.core.wire import keys, metrics, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.publish import PublishStage


@pytest.fixture
def client(tiled: TiledProcess) -> Iterator[Any]:
    from tiled.client import from_uri

    found = from_uri(tiled.uri, api_key=KEY)
    yield found
    found.context.close()


@pytest.fixture
def published(settings: Settings, tiled: TiledProcess) -> Settings:
    """Settings of a facility: an external Tiled by URI and key."""
    return settings.model_copy(update={"tiled": TiledSettings(uri=tiled.uri, api_key=KEY, interval="PT0.01S")})


class Faults(httpx.BaseTransport):
    """The way to a real server, on which calls can fail before or after they are done."""

    def __init__(self) -> None:
        self._way = httpx.HTTPTransport()
        self.before: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
        self.after: Callable[[httpx.Request, httpx.Response], httpx.Response] = lambda _, response: response
        self.calls: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((request.method, request.url.path))
        if (response := self.before(request)) is not None:
            return response
        return self.after(request, self._way.handle_request(request))

    def close(self) -> None:
        self._way.close()


def test_run_grows_in_tiled_and_ends_with_its_provenance(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "grows")
    stage = PublishStage(published, redis)
    turn(stage, lambda: run.status().publish_state == "live")
    node = client["quietbeam"]["grows"]
    assert node["denoised"].shape == (2, *SHAPE) and node["denoised"].dims == ("line", "row", "col")
    assert not node["measured"].read().any()

    run.rows(0, 4)
    turn(stage, lambda: run.status().publish_version == 1)
    run.assert_equal(client)
    run.rows(4, 8)
    turn(stage, lambda: run.status().publish_version == 2)
    run.assert_equal(client)

    run.finish()
    turn(stage, lambda: run.status().publish_state == "final")
    stage.close()
    run.assert_equal(client)
    node = client["quietbeam"]["grows"]
    assert [(s.name, s.version) for s in node.specs] == [("XRFDenoisedRun", "1.0")]
    metadata = node.metadata
    assert metadata["raw_run_uid"] == "grows" and list(metadata["lines"]) == list(LINES)
    assert metadata["weights"]["sha256"] == "ab" * 32
    assert metadata["evidence"]["lines"][0]["dwell_gain"] == 3.5
    assert metadata["state"] == "complete" and metadata["maps"] == {"version": 3, "final": True, "refined": False}
    assert metadata["published"] == {"version": 3, "final": True}
    assert list(node["denoised"].metadata["lines"]) == list(LINES)
    assert run.status().tiled_path == "quietbeam/grows"
    assert metrics.read(redis)["quietbeam_tiled_updates_total"] >= 3


def test_subscriber_gets_the_bytes_while_the_scan_runs(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "streamed")
    stage = PublishStage(published, redis)
    turn(stage, lambda: run.status().publish_state == "live")
    seen = np.zeros((2, *SHAPE), "float32")
    updates: list[tuple[int, ...]] = []
    ended = threading.Event()

    def take(update: Any) -> None:
        data = np.asarray(update.data())
        first = update.offset[1] if update.offset else 0
        seen[:, first : first + data.shape[1]] = data
        updates.append(data.shape)

    def end(_subscription: Any) -> None:
        ended.set()

    subscription = client["quietbeam"]["streamed"]["denoised"].subscribe()
    subscription.new_data.add_callback(take)
    subscription.disconnected.add_callback(end)
    subscription.start_in_thread(0, max_size=64_000_000)
    try:
        for first in range(0, 12, 4):
            n = len(updates)
            run.rows(first, first + 4)
            turn(stage, lambda: run.status().publish_version == run.version)
            wait_until(lambda n=n: len(updates) > n, what="an update")
            np.testing.assert_array_equal(seen[:, : first + 4], run.buffer.read_map("denoised")[:, : first + 4])
        assert (2, 4, 10) in updates, "only the changed rows travel"
        run.finish()
        turn(stage, lambda: run.status().publish_state == "final")
        wait_until(ended.is_set, what="the end of the stream")
        np.testing.assert_array_equal(seen, run.buffer.read_map("denoised"))
    finally:
        subscription.disconnect()
        stage.close()


def publisher_command(settings: Settings, folder: Path) -> list[str]:
    """Write a config and return the command that runs the publisher as a process."""
    config = folder / "publish.yaml"
    tiled = {"uri": settings.tiled.uri, "api_key": KEY, "interval": 0.01}
    config.write_text(
        yaml.safe_dump({"data_dir": str(settings.data_dir), "redis": {"url": settings.redis.url}, "tiled": tiled})
    )
    return [sys.executable, "-m", "quietbeam", "publish", "-c", str(config)]


@pytest.mark.parametrize("point", ["publish.after_write", "publish.before_close"])
def test_death_between_two_effects_changes_nothing(
    published: Settings, redis: Connection, client: Any, tmp_path: Path, point: str
) -> None:
    run = Run(published, redis, point.replace(".", "-"))
    run.finish()
    command = publisher_command(published, tmp_path)
    died = subprocess.run(command, env={**os.environ, "QUIETBEAM_FAILPOINT": point}, timeout=60, check=False)
    assert died.returncode == 99 and run.status().publish_state != "final"
    faults = Faults()
    stage = PublishStage(published, redis, transport=faults)
    turn(stage, lambda: run.status().publish_state == "final")
    stage.close()
    run.assert_equal(client)
    if point == "publish.before_close":
        assert not [call for call in faults.calls if call[0] in ("PUT", "PATCH")], "the streams may be closed already"


def test_a_full_redis_is_waited_out(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "full-redis")
    run.rows(0, 4)
    stage = PublishStage(published, redis)
    redis.config_set("maxmemory", "1")
    try:
        for _ in range(3):
            stage.step()
    finally:
        redis.config_set("maxmemory", "0")
    turn(stage, lambda: run.status().publish_version == 1)
    run.assert_equal(client)
    stage.close()


def test_redis_that_forgot_everything(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "forgotten")
    stage = PublishStage(published, redis)
    run.rows(0, 4)
    turn(stage, lambda: run.status().publish_version == 1)
    redis.flushall()
    # As ingest and worker do when Redis is back.
    runs.register_run(redis, "forgotten", 1.0)
    runs.write_status(redis, "forgotten", info=run.info, state=RunState.RUNNING)
    stage.recover()
    run.rows(4, 8)
    turn(stage, lambda: run.status().publish_version == 2 and run.status().publish_state == "live")
    run.assert_equal(client)
    stage.close()


def test_a_killed_publisher_loses_nothing(published: Settings, redis: Connection, client: Any, tmp_path: Path) -> None:
    run = Run(published, redis, "killed")
    command = publisher_command(published, tmp_path)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    process = start()
    try:
        run.rows(0, 4)
        wait_until(lambda: run.status().publish_version == 1, 60, "the first update")
        process.kill()
        process.wait(10)
        # Nobody is there to hear these wake-ups, and one of them never comes.
        run.rows(4, 6)
        run.rows(6, 8, wake=False)
        process = start()
        wait_until(lambda: run.status().publish_version == 3, 60, "the missed rows")
        run.assert_equal(client)
        run.finish()
        wait_until(lambda: run.status().publish_state == "final", 60, "the final maps")
        run.assert_equal(client)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def test_a_lost_wake_up_is_noticed(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "lost-wake-up")
    stage = PublishStage(published, redis)
    turn(stage, lambda: run.status().publish_state == "live")
    run.rows(0, 8, wake=False)
    turn(stage, lambda: run.status().publish_version == 1)
    run.assert_equal(client)
    stage.close()


def test_restart_of_tiled_is_waited_out_and_said(
    published: Settings, redis: Connection, client: Any, tiled: TiledProcess
) -> None:
    run = Run(published, redis, "outage")
    stage = PublishStage(published, redis)
    run.rows(0, 2)
    turn(stage, lambda: run.status().publish_version == 1)
    tiled.kill()
    try:
        run.rows(2, 6)
        turn(stage, lambda: "does not answer" in run.status().publish_reason)
        assert run.status().publish_state == "waiting"
        assert stage.trouble().startswith("Tiled does not answer")
        before = time.monotonic()
        stage.step()
        assert time.monotonic() - before < 1, "an outage must not hold the stage"
        for _ in range(12):  # a long outage
            stage._outage_until = 0.0
            stage.step()
        assert stage._outage_failures > 8 and stage._outage_until < time.monotonic() + 5, "it goes on soon after"
        run.rows(6, 10)
    finally:
        tiled.start()
    turn(stage, lambda: run.status().publish_version == 3)
    assert run.status().publish_reason == "" and run.status().publish_state == "live"
    assert stage.trouble() == ""
    run.assert_equal(client)
    assert metrics.read(redis)["quietbeam_tiled_publish_failures_total"] >= 1
    stage.close()


def test_create_that_answers_500_but_exists_and_409(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "create500")
    faults = Faults()
    failed: set[str] = set()

    def lie_once(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if request.method == "POST" and request.url.path not in failed:
            response.read()
            failed.add(request.url.path)
            return httpx.Response(500, json={"detail": "no"})
        return response

    faults.after = lie_once
    stage = PublishStage(published, redis, transport=faults)
    run.rows(0, 3)
    turn(stage, lambda: run.status().publish_version == 1)
    assert failed
    stage.close()
    # A second publisher meets what the first made: every create is answered with 409.
    second = PublishStage(published, redis)
    run.rows(3, 6)
    turn(second, lambda: run.status().publish_version == 2)
    run.assert_equal(client)
    second.close()


def test_failure_of_one_run_does_not_delay_another(published: Settings, redis: Connection, client: Any) -> None:
    bad, good = Run(published, redis, "bad-run"), Run(published, redis, "good-run")
    faults = Faults()
    faults.before = lambda request: httpx.Response(500) if "bad-run" in str(request.url) else None
    stage = PublishStage(published, redis, transport=faults)
    bad.rows(0, 2)
    for first in range(0, 6, 2):
        good.rows(first, first + 2)
        turn(stage, lambda: good.status().publish_version == good.version, 10)
    assert "500" in bad.status().publish_reason
    faults.before = lambda _: None
    turn(stage, lambda: bad.status().publish_version == 1)
    bad.assert_equal(client)
    stage.close()


def test_refused_key_says_what_to_do(published: Settings, redis: Connection) -> None:
    run = Run(published, redis, "refused")
    wrong = published.model_copy(update={"tiled": TiledSettings(uri=published.tiled.uri, api_key="wrong")})
    stage = PublishStage(wrong, redis)
    turn(stage, lambda: run.status().publish_state == "failed")
    assert "QUIETBEAM_TILED__API_KEY" in run.status().publish_reason
    assert "wrong" not in run.status().publish_reason
    stage.close()


def test_nothing_is_written_twice_after_the_end(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "ended")
    stage = PublishStage(published, redis)
    run.finish()
    turn(stage, lambda: run.status().publish_state == "final")
    stage.close()
    # Redis forgets that the run is published: the next publisher finds it whole in Tiled and writes nothing.
    redis.hdel(keys.run("ended"), "publish_state", "publish_version")
    faults = Faults()
    again = PublishStage(published, redis, transport=faults)
    turn(again, lambda: run.status().publish_state == "final")
    assert not [call for call in faults.calls if call[0] in ("PUT", "PATCH")]
    assert run.status().publish_version == 1
    again.close()


def test_damaged_final_maps_are_mended(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "damaged")
    faults = Faults()
    spoiled: list[str] = []

    def spoil(request: httpx.Request) -> httpx.Response | None:
        if (
            request.method == "PUT"
            and request.url.path.endswith("/array/full/quietbeam/damaged/denoised")
            and not spoiled
        ):
            spoiled.append(str(request.url))
            return httpx.Response(200)
        return None

    faults.before = spoil
    stage = PublishStage(published, redis, transport=faults)
    run.finish()
    turn(stage, lambda: run.status().publish_state == "final")
    assert spoiled
    run.assert_equal(client)
    stage.close()


def test_unmeasured_and_infinite_values_become_zero(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "nans")
    maps = np.full((3, 2, 2, 10), np.nan, "float32")
    maps[:, :, 1] = np.inf
    run.version = 1
    run.buffer.write_maps(0, *maps, version=1)
    run.note(0, 2)
    stage = PublishStage(published, redis)
    turn(stage, lambda: run.status().publish_version == 1)
    assert not client["quietbeam"]["nans"]["denoised"].read().any()
    stage.close()


def test_aborted_and_failed_runs_are_closed_too(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "aborted")
    stage = PublishStage(published, redis)
    run.rows(0, 5)
    runs.write_status(redis, "aborted", state=RunState.ABORTED, denoise_state="failed", denoise_reason="no memory")
    turn(stage, lambda: run.status().publish_state == "final")
    metadata = client["quietbeam"]["aborted"].metadata
    assert metadata["state"] == "aborted" and metadata["denoise_reason"] == "no memory"
    run.assert_equal(client)
    stage.close()


def test_large_maps_travel_in_bands(
    published: Settings, redis: Connection, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quietbeam.publish.publication.MESSAGE_BYTES", 70 * 10 * 2 * 4)
    run = Run(published, redis, "large", shape=(150, 10))
    faults = Faults()
    stage = PublishStage(published, redis, transport=faults)
    run.rows(0, 150)
    turn(stage, lambda: run.status().publish_version == 1)
    run.assert_equal(client)
    assert faults.calls.count(("PATCH", "/api/v1/array/full/quietbeam/large/denoised")) == 3
    stage.close()


def test_deleted_buffer_is_forgotten(published: Settings, redis: Connection) -> None:
    import shutil

    run = Run(published, redis, "deleted")
    stage = PublishStage(published, redis)
    turn(stage, lambda: run.status().publish_state == "live")
    shutil.rmtree(run.buffer.path)
    turn(stage, lambda: "0 of 0 active" in stage.detail())
    stage.close()


def test_a_damaged_run_is_named_and_the_others_are_published(published: Settings, redis: Connection) -> None:
    damaged = damaged_runs(published, redis)
    stage = PublishStage(published, redis)
    turn(stage, lambda: all(run.status().publish_state in ("final", "failed") for run in damaged), 60)
    told = {run.info.uid: run.status().damage for run in damaged}
    assert damaged[-1].status().publish_state == "final" and not told["sound"]
    assert all(told[name] for name in ("garbage", "a-folder", "a-number", "torn-map", "empty-map"))
    stage.close()
