"""Outages of Redis and of the disk, in the loop in which stages run: waited out, said plainly, and nothing is lost."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis as redis_py
from ingest_kit import Scan
from worker_kit import SHAPE, Beamline, quick, turn

from conftest import ValkeyProcess, wait_until
from quietbeam.buffer import RunBuffer
from quietbeam.buffer.map_folders import MapFolders
from quietbeam.core import codec
from quietbeam.core.process import outage
from quietbeam.core.process.outage import Outages, build_when_possible, disk_outage, redis_outage
from quietbeam.core.process.stage import run_stage
from quietbeam.core.process.stop import StopRequest
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection, connect
from quietbeam.denoiser.live.stage import DenoiseStage
from quietbeam.ingest.stage.service import IngestStage
from quietbeam.publish import PublishStage

REFUSALS = {
    "OOM": ("maxmemory", "1", "0"),
    "NOREPLICAS": ("min-replicas-to-write", "1", "0"),
    "READONLY": None,
    "MISCONF": None,
}


def publish(client: Connection, documents: list[tuple[str, dict[str, Any]]], run: str) -> None:
    for name, document in documents:
        client.xadd(keys.DOCS, {"name": name, "run": run, "doc": codec.pack(document)})


def refuse(client: Connection, kind: str, folder: Path) -> None:
    """Let a real Valkey refuse writes."""
    if kind == "READONLY":
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    elif kind == "MISCONF":
        client.config_set("save", "3600 1000000")
        (folder / "temp").mkdir()
        client.config_set("dir", str(folder / "temp"))
        (folder / "temp").rmdir()
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    else:
        setting, value, _ = REFUSALS[kind] or ("", "", "")
        client.config_set(setting, value)


def accept(client: Connection, kind: str) -> None:
    if kind == "READONLY":
        client.execute_command("REPLICAOF", "NO", "ONE")
    elif kind == "MISCONF":
        client.config_set("stop-writes-on-bgsave-error", "no")
    else:
        setting, _, value = REFUSALS[kind] or ("", "", "")
        client.config_set(setting, value)


@contextmanager
def running(build: Callable[[Connection, StopRequest], Any], url: str) -> Iterator[threading.Thread]:
    """Run a stage as its command does."""
    stop, connection = StopRequest(), connect(url)

    def run() -> None:
        stage = build_when_possible(lambda: build(connection, stop), "stage", stop)
        if stage is not None:
            run_stage(stage, connection, stop, trouble=getattr(stage, "trouble", lambda: ""))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        connection.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "FIRST_S", 0.05)
    monkeypatch.setattr(outage, "LONGEST_S", 0.2)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("kind", list(REFUSALS))
def test_every_stage_waits_until_redis_takes_writes_again(
    settings: Settings, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """The stages meet the refusal while they work, and one starts in it."""
    server = ValkeyProcess("--enable-protected-configs", "yes")
    server.start()
    request.addfinalizer(server.close)
    url, client = server.url, connect(server.url)
    settings = quick(settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": url})}))
    scan = Scan(6, 8)
    documents = scan.docs()
    publish(client, documents[:20], scan.uid)

    def ingest(connection: Connection, _stop: StopRequest) -> IngestStage:
        return IngestStage(settings, connection)

    def worker(connection: Connection, stop: StopRequest) -> DenoiseStage:
        return DenoiseStage(settings, connection, owner="here", stop=stop)

    def publisher(connection: Connection, _stop: StopRequest) -> PublishStage:
        return PublishStage(settings, connection)

    with running(worker, url) as denoising, running(publisher, url) as publishing:
        with running(ingest, url):
            wait_until(lambda: client.hget(keys.run(scan.uid), "state") == b"running", what="the start of the run")
            refuse(client, kind, tmp_path)
            time.sleep(1.0)
        with running(ingest, url) as again:  # started in the outage
            time.sleep(1.5)
            assert all(thread.is_alive() for thread in (again, denoising, publishing)), "nobody gives up"
            accept(client, kind)
            publish(client, documents[20:], scan.uid)

            def final() -> bool:
                status = runs.read_status(client, scan.uid)
                return status is not None and status.state.ended and status.denoise_state == "final"

            wait_until(final, 60, what="the final maps")
    buffer = RunBuffer.open(settings.runs_dir, scan.uid)
    np.testing.assert_array_equal(buffer.read_counts(), scan.counts)
    assert buffer.map_attributes()["version"] == int(client.hget(keys.run(scan.uid), "maps_version") or 0)
    said = {"OOM": "is full", "NOREPLICAS": "too few replicas", "READONLY": "read-only", "MISCONF": "its own disk"}
    assert said[kind] in capfd.readouterr().out
    client.close()


def test_a_full_disk_costs_the_worker_nothing_but_time(
    settings: Settings, redis: Connection, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beamline = Beamline(settings, redis)
    beamline.commit(*range(SHAPE[0]))
    full = threading.Event()
    full.set()
    real = MapFolders.to_write

    def to_write(folders: MapFolders) -> Path:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(folders)

    monkeypatch.setattr(MapFolders, "to_write", to_write)
    with running(lambda c, stop: DenoiseStage(quick(settings), c, owner="here", stop=stop), redis_server):

        def beat(field: str) -> str:
            return (redis.hget(keys.stage("worker"), field) or b"").decode()

        where = f"Cannot write to {beamline.buffer.path}: no space left on device. Worker retries."
        wait_until(lambda: beat("state") == "degraded" and beat("detail") == where, 30, "the heartbeat saying so")
        beamline.stop()
        full.clear()
        wait_until(lambda: beamline.status().denoise_state == "final", 60, "the final maps")
        assert beamline.status().denoise_reason == "", "the run is not given up"
        wait_until(lambda: beat("state") == "ready", 10, "the end of the trouble")


def test_a_folder_that_cannot_be_written_costs_other_runs_nothing(
    settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, other = Beamline(settings, redis, "locked"), Beamline(settings, redis, "other")
    real = MapFolders.to_write

    def to_write(folders: MapFolders) -> Path:
        if folders._run.name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folders._run))
        return real(folders)

    monkeypatch.setattr(MapFolders, "to_write", to_write)
    stage = DenoiseStage(quick(settings), redis, owner="here")
    for beamline in (locked, other):
        beamline.commit(*range(SHAPE[0]))
        beamline.stop()
    turn(stage, lambda: other.status().denoise_state == "final")
    assert locked.status().denoise_state == "waiting" and "permission denied" in stage.trouble()


def test_programming_errors_are_no_outage() -> None:
    for error in (ValueError("x"), redis_py.ResponseError("WRONGTYPE of a key"), redis_py.DataError("x")):
        assert not redis_outage(error) and not disk_outage(error)
        assert not Outages("ingest", StopRequest()).begin(error)
    assert not disk_outage(FileNotFoundError(errno.ENOENT, "no such file"))
    annotated = redis_py.ResponseError("Command # 1 (HSET k f v) of pipeline caused error: MISCONF Errors writing")
    assert "its own disk" in redis_outage(annotated)


def test_pauses_grow_and_the_reason_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    stop = StopRequest()
    monkeypatch.setattr(stop, "wait", paused.append)
    outages = Outages("ingest", stop, "/data")
    for _ in range(8):
        assert outages.begin(OSError(errno.ENOSPC, "x"))
        outages.pause()
    assert outages.sentence == "Cannot write to /data: no space left on device. Ingest retries."
    assert paused[:3] == [0.25, 0.5, 1.0] and paused[-1] == 5.0
    outages.end()
    assert not outages.sentence
