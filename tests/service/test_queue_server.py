"""The shipped start-up file in a real RE Manager: plans from the queue, run by its worker on the IOC, reach ingest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky_queueserver_api import BPlan
from bluesky_queueserver_api.zmq import REManagerAPI
from ingest_kit import Pipe

from quietbeam.app.ports import free_port
from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.beamline.ioc.address import Address, free_ca_port
from quietbeam.core import codec, keys
from quietbeam.core.bus import Connection, connect
from quietbeam.core.settings import IngestSettings, RedisSettings, Settings, configs_dir
from quietbeam.core.types import RunState

OPTIONS = ExperimentOptions(specimen="cell", lines=("P_Ka", "Fe_Ka"), shape=(3, 4), detectors=2, counts=20, seed=1)
PROFILE = configs_dir() / "queueserver"


class Manager:
    """A RE Manager with the shipped start-up file, and its API."""

    def __init__(self, folder: Path, redis_url: str, address: Address) -> None:
        control, info = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self.log = folder / "manager.log"
        environment = {
            **os.environ,
            **address.client_environment(),
            "REDIS_URL": redis_url,
            "QUIETBEAM_IOC_PREFIX": address.prefix,
            "QUIETBEAM_SPOOL": str(folder / "spool"),
            "OMP_NUM_THREADS": "1",
        }
        command = [str(Path(sys.executable).parent / "start-re-manager"), "--startup-dir", str(PROFILE)]
        command += ["--existing-plans-devices", str(folder), "--redis-addr", redis_url.removeprefix("redis://")]
        command += ["--zmq-control-addr", control, "--zmq-info-addr", info, "--zmq-publish-console", "ON"]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        self.api = REManagerAPI(zmq_control_addr=control, zmq_info_addr=info)

    def do(self, *plans: BPlan) -> list[dict[str, Any]]:
        """Open the environment, run plans, close it; return what the history says of each."""
        api = self.api
        try:
            api.wait_for_idle(timeout=120)
            api.environment_open()
            api.wait_for_idle(timeout=180)
            assert api.status()["worker_environment_exists"]
            for plan in plans:
                api.item_add(plan)
            api.queue_start()
            api.wait_for_idle(timeout=180)
            history: list[dict[str, Any]] = api.history_get()["items"]
            api.environment_close()
            api.wait_for_idle(timeout=60)
        except Exception as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-6000:]}") from error
        return history

    def close(self) -> None:
        self.api.close()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


@pytest.fixture
def address() -> Iterator[Address]:
    address = Address(prefix="QBQS:", port=free_ca_port())
    command = [sys.executable, "-m", "quietbeam", "simulate", "--ioc", "--serve-only", "--speed", "0", "--seed", "1"]
    command += ["--prefix", address.prefix, "--ca-port", str(address.port), "--lines", ",".join(OPTIONS.lines)]
    command += ["--shape", "3x4", "--detectors", "2", "--counts", "20"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and "QBQS:XSP3:" in process.stdout.readline()
    yield address
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture
def tcp_redis() -> Iterator[str]:
    """A Valkey on a TCP port, as a RE Manager wants it."""
    from conftest import ValkeyProcess

    port = free_port()
    server = ValkeyProcess("--port", str(port), "--bind", "127.0.0.1")
    server.start()
    yield f"redis://127.0.0.1:{port}"
    server.close()


def documents(redis: Connection) -> list[tuple[str, Any]]:
    entries: Any = redis.xrange(keys.DOCS)
    return [(fields[b"name"].decode(), codec.unpack(fields[b"doc"])) for _, fields in entries]


@pytest.mark.supports("control system", "bluesky-queueserver: plans of the shipped start-up file, on the EPICS IOC")
def test_queued_plans_are_ingested(address: Address, tcp_redis: str, tmp_path: Path) -> None:
    manager = Manager(tmp_path, tcp_redis, address)
    try:
        history = manager.do(BPlan("xrf_map"), BPlan("xrf_passes", passes=2))
    finally:
        manager.close()
    results = [item["result"] for item in history]
    assert [r["exit_status"] for r in results] == ["completed", "completed"], results
    uids = [r["run_uids"][0] for r in results]

    redis = connect(tcp_redis)
    settings = Settings(data_dir=tmp_path / "data", redis=RedisSettings(url=tcp_redis), ingest=IngestSettings())
    pipe = Pipe(settings, redis)
    pipe.send(documents(redis))
    pipe.drain(60)
    experiment = Experiment(OPTIONS)
    rows, cols = OPTIONS.shape

    def measured() -> np.ndarray[Any, Any]:
        counts = np.zeros((2, 2, rows, cols), np.uint32)
        for row, col in np.ndindex(rows, cols):
            counts[:, :, row, col] = experiment.measure(row, col).counts
        return counts

    for uid, expected in ((uids[0], measured()), (uids[1], measured() + measured())):
        status = pipe.status(uid)
        assert status.state is RunState.COMPLETE, status
        np.testing.assert_array_equal(pipe.counts(uid), expected)
    assert expected.sum() > 100
    pipe.stage.close()
    redis.close()
