"""Kills, outages, full disks, poison: no count is lost, nothing happens twice, ingest goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ingest_kit import Pipe, Scan, same

from quietbeam.buffer import RunBuffer
from quietbeam.core import codec
from quietbeam.core.model.types import RowBlock, RunState
from quietbeam.core.process.stop import StopRequest
from quietbeam.core.settings import RedisSettings, Settings
from quietbeam.core.wire import bus, keys, runs
from quietbeam.core.wire.bus import Connection, connect
from quietbeam.ingest.transports import RedisSource

if TYPE_CHECKING:
    from conftest import ValkeyProcess

DIES = """
import sys
from quietbeam.core.wire.bus import connect
from quietbeam.core.settings import load_settings
from quietbeam.ingest.stage.service import IngestStage
settings = load_settings(sys.argv[1])
stage = IngestStage(settings, connect(settings.redis_url))
while True:
    stage.step()
"""


@pytest.fixture
def pipe(settings: Settings, redis: Connection) -> Iterator[Pipe]:
    pipe = Pipe(settings, redis)
    yield pipe
    pipe.stage.close()


def publish(connection: Connection, docs: list[tuple[str, dict[str, Any]]], run: str) -> None:
    for name, doc in docs:
        connection.xadd(keys.DOCS, {"name": name, "run": run, "doc": codec.pack(doc)})


@pytest.mark.parametrize("stop_after", [1, 2, 3, 6, 7, 12, 21])
def test_a_kill_anywhere_leaves_the_same_bytes(settings: Settings, redis: Connection, stop_after: int) -> None:
    scan = Scan(snake=True)
    docs = scan.docs()
    rewound = [*docs[:9], *(scan.event(i, **dict.fromkeys(scan.keys, 50)) for i in (7, 8)), *docs[9:]]
    pipe = Pipe(settings, redis)
    pipe.send(rewound[:stop_after])
    while pipe.stage.step():
        pass
    pipe.die()
    pipe = pipe.again()
    pipe.send(rewound[stop_after:])
    pipe.drain()
    same(pipe, scan)
    assert pipe.status(scan.uid).state is RunState.COMPLETE
    pipe.stage.close()


def test_a_kill_between_write_and_acknowledgement(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    scan = Scan()
    publish(redis, scan.docs(), scan.uid)
    config = tmp_path / "config.yaml"
    config.write_text(f"data_dir: {settings.data_dir}\nredis: {{url: '{settings.redis.url}'}}\n")
    environment = {**os.environ, "QUIETBEAM_FAILPOINT": f"ingest.after_write@{tmp_path / 'died'}"}
    child = subprocess.run(
        [sys.executable, "-c", DIES, str(config)], env=environment, timeout=60, capture_output=True, check=False
    )
    assert child.returncode == 99, child.stderr.decode()
    pending: Any = redis.xpending(keys.DOCS, "ingest")
    assert pending["pending"] == len(scan.docs())
    assert RunBuffer.open(settings.runs_dir, scan.uid).measured()[0].all()
    pipe = Pipe(settings, redis, RedisSource(redis))

    def nothing_pending() -> bool:
        reply: Any = redis.xpending(keys.DOCS, "ingest")
        return bool(reply["pending"] == 0)

    pipe.until(nothing_pending)
    same(pipe, scan)
    assert pipe.state(scan.uid) is RunState.COMPLETE
    pipe.stage.close()


def test_redis_dies_and_comes_back_with_its_data(settings: Settings, valkey_process: ValkeyProcess) -> None:
    settings = settings.model_copy(update={"redis": RedisSettings(url=valkey_process.url)})
    connection = connect(valkey_process.url)
    scan = Scan()
    docs = scan.docs()
    publish(connection, docs[:10], scan.uid)
    pipe = Pipe(settings, connection, RedisSource(connection))
    pipe.until(lambda: pipe.state(scan.uid) and pipe.status(scan.uid).rows_measured == 1)
    valkey_process.kill()
    with pytest.raises(bus.redis.ConnectionError):
        while True:
            pipe.stage.step()
    valkey_process.start()
    pipe.stage.recover()
    publish(connection, docs[10:], scan.uid)
    pipe.until(lambda: pipe.state(scan.uid) is RunState.COMPLETE)
    same(pipe, scan)
    pipe.stage.close()


def test_redis_loses_everything(settings: Settings, redis: Connection) -> None:
    old, scan = Scan(seed=1), Scan(seed=2)
    docs = scan.docs()
    pipe = Pipe(settings, redis, RedisSource(redis))
    publish(redis, old.docs(), old.uid)
    publish(redis, docs[:9], scan.uid)
    pipe.until(lambda: pipe.state(old.uid) is RunState.COMPLETE)
    while pipe.stage.step():
        pass
    redis.flushall()
    pipe.stage.recover()
    assert pipe.status(old.uid).state is RunState.COMPLETE and pipe.status(old.uid).pixels_measured == 20
    assert set(runs.list_runs(redis)) == {old.uid, scan.uid}
    publish(redis, docs[9:], scan.uid)
    pipe.until(lambda: pipe.state(scan.uid) is RunState.COMPLETE)
    same(pipe, scan)
    same(pipe, old)
    # Both at once: Redis empty and ingest new. What is on disk is listed again.
    redis.flushall()
    pipe.die()
    pipe = Pipe(settings, redis, RedisSource(redis))
    assert pipe.status(scan.uid).state is RunState.COMPLETE
    pipe.stage.close()


def test_a_flush_without_a_disconnection_is_noticed(
    settings: Settings, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quietbeam.ingest.stage.service.TRIM_S", 0.05)
    scan = Scan()
    docs = scan.docs()
    pipe = Pipe(settings, redis, RedisSource(redis))
    publish(redis, docs[:9], scan.uid)
    pipe.until(lambda: pipe.state(scan.uid) and pipe.status(scan.uid).rows_measured == 1)
    redis.flushall()
    pipe.until(lambda: pipe.state(scan.uid) is RunState.RUNNING)
    publish(redis, docs[9:], scan.uid)
    pipe.until(lambda: pipe.state(scan.uid) is RunState.COMPLETE)
    same(pipe, scan)
    pipe.stage.close()


def test_full_disk_waits_and_goes_on(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Scan()
    docs = scan.docs()
    pipe.send(docs[:8])
    pipe.drain()
    write_row = RunBuffer.write_row

    def no_space(self: RunBuffer, row: int, block: RowBlock, first_col: int = 0) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunBuffer, "write_row", no_space)
    pipe.send(docs[8:])
    pipe.until(lambda: pipe.stage._backoff.seconds > 0.1)
    assert pipe.source.unacknowledged > 0  # type: ignore[attr-defined]
    monkeypatch.setattr(RunBuffer, "write_row", write_row)
    pipe.drain()
    same(pipe, scan)
    status = pipe.status(scan.uid)
    assert status.state is RunState.COMPLETE
    assert any("no space left on device" in warning for warning in status.warnings)


def test_a_run_that_begins_on_a_full_disk_waits_for_space(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, usage = Scan(), shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=4096))
    pipe.send(scan.docs())
    pipe.until(lambda: pipe.stage._backoff.seconds > 0.1)
    assert pipe.source.unacknowledged > 0  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", usage)
    pipe.drain()
    same(pipe, scan)
    assert pipe.status(scan.uid).state is RunState.COMPLETE


def test_redis_full_is_back_pressure(settings: Settings, valkey_process: ValkeyProcess) -> None:
    settings = settings.model_copy(update={"redis": RedisSettings(url=valkey_process.url)})
    connection = connect(valkey_process.url)
    scan = Scan()
    publish(connection, scan.docs(), scan.uid)
    pipe = Pipe(settings, connection, RedisSource(connection))
    connection.config_set("maxmemory", "1")
    for _ in range(5):
        pipe.stage.step()
    assert pipe.stage._backoff.seconds > 0
    connection.config_set("maxmemory", "0")
    pipe.until(lambda: pipe.state(scan.uid) is RunState.COMPLETE)
    same(pipe, scan)
    pipe.stage.close()


def test_an_end_to_end_scan_of_a_real_engine_over_an_outage(
    settings: Settings, valkey_process: ValkeyProcess, tmp_path: Path
) -> None:
    """RunEngine -> publisher with spool -> Redis that dies in mid-scan -> ingest."""
    from bluesky import RunEngine
    from bluesky.plan_stubs import close_run, create, mv, open_run, read, save
    from ophyd import Component as Cpt
    from ophyd import Device, Signal

    from quietbeam.runengine.publisher import RedisPublisher

    class Xs(Device):
        det1_P_Ka = Cpt(Signal, value=0)
        det1_Fe_Ka = Cpt(Signal, value=0)
        det2_P_Ka = Cpt(Signal, value=0)
        det2_Fe_Ka = Cpt(Signal, value=0)

    device = Xs("", name="xs")
    counts = np.random.default_rng(5).poisson(3, (2, 2, 4, 6)).astype(np.uint32)
    publisher = RedisPublisher(valkey_process.url, spool_dir=tmp_path / "spool")
    engine = RunEngine({}, call_returns_result=True)
    engine.subscribe(publisher)
    names = ("det1_P_Ka", "det1_Fe_Ka", "det2_P_Ka", "det2_Fe_Ka")

    def scan() -> Any:
        yield from open_run({"beamline_id": "quietbeam-simulated", "shape": [4, 6], "snaking": [False, False]})
        for index in range(24):
            if index == 8:
                valkey_process.kill()
            if index == 20:
                valkey_process.start()
            for name, value in zip(names, counts[:, :, index // 6, index % 6].ravel(), strict=True):
                yield from mv(getattr(device, name), int(value))
            yield from create("primary")
            yield from read(device)
            yield from save()
        yield from close_run()

    result: Any = engine(scan())
    assert publisher.close(20)
    assert publisher.stats().dropped == 0
    connection = connect(valkey_process.url)
    settings = settings.model_copy(update={"redis": RedisSettings(url=valkey_process.url)})
    pipe = Pipe(settings, connection, RedisSource(connection))
    uid = result.run_start_uids[0]
    pipe.until(lambda: pipe.state(uid) is RunState.COMPLETE)
    assert pipe.status(uid).state is RunState.COMPLETE
    np.testing.assert_array_equal(pipe.counts(uid), counts)
    pipe.stage.close()


def test_pause_and_rewind_of_a_real_engine(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    """The engine measures four pixels again after a pause: what it measured last is kept."""
    from bluesky import RunEngine
    from bluesky.plan_stubs import checkpoint, close_run, create, open_run, pause, read, save, trigger
    from bluesky.utils import RunEngineInterrupted
    from ophyd import Component as Cpt
    from ophyd import Device, Signal
    from ophyd.status import Status

    from quietbeam.runengine.publisher import RedisPublisher

    class Xs(Device):
        det1_P_Ka = Cpt(Signal, value=0)
        det2_P_Ka = Cpt(Signal, value=0)
        shots = 0

        def trigger(self) -> Status:
            self.shots += 1
            self.det1_P_Ka.put(self.shots)
            self.det2_P_Ka.put(100 + self.shots)
            status = Status(self)
            status.set_finished()
            return status

    device = Xs("", name="xs")
    publisher = RedisPublisher(str(settings.redis.url), spool_dir=tmp_path / "spool")
    engine = RunEngine({}, call_returns_result=True)
    engine.subscribe(publisher)

    def scan() -> Any:
        yield from open_run({"beamline_id": "quietbeam-simulated", "shape": [3, 5]})
        for index in range(15):
            if index == 4:
                yield from checkpoint()
            yield from trigger(device, wait=True)
            yield from create("primary")
            yield from read(device)
            yield from save()
            if index == 7:
                yield from pause()
        yield from close_run()

    with pytest.raises(RunEngineInterrupted):
        engine(scan())
    result: Any = engine.resume()
    assert publisher.close(20)
    uid = result.run_start_uids[0]
    pipe = Pipe(settings, redis, RedisSource(redis))
    pipe.until(lambda: pipe.state(uid) is RunState.COMPLETE)
    shots = np.concatenate([np.arange(1, 5), np.arange(9, 20)]).reshape(3, 5)  # 5 to 8 were measured again
    np.testing.assert_array_equal(pipe.counts(uid)[0, 0], shots)
    np.testing.assert_array_equal(pipe.counts(uid)[1, 0], 100 + shots)
    pipe.stage.close()


def test_the_stage_runs_in_its_loop(settings: Settings, redis: Connection) -> None:
    from quietbeam.core.process.stage import run_stage
    from quietbeam.ingest.stage.service import IngestStage

    stop = StopRequest()
    stage = IngestStage(settings, redis)
    thread = threading.Thread(target=run_stage, args=(stage, redis, stop))
    thread.start()
    scan = Scan()
    client = connect(str(settings.redis.url))
    publish(client, scan.docs(), scan.uid)

    def ended() -> bool:
        status = runs.read_status(client, scan.uid)
        return status is not None and status.state.ended

    from conftest import wait_until

    wait_until(ended, what="the run being complete")
    beat: Any = client.hgetall(keys.stage("ingest"))
    assert beat[b"state"] == b"ready"
    metrics: Any = client.hgetall("qb:metrics")
    wait_until(lambda: b"quietbeam_rows_committed_total" in client.hgetall("qb:metrics"))  # type: ignore[operator]
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    metrics = client.hgetall("qb:metrics")
    assert float(metrics[b"quietbeam_documents_received_total"]) == len(scan.docs())
    assert float(metrics[b"quietbeam_rows_committed_total"]) == 4
