"""The shipped start-up file in a real RE Manager: plans from the queue, run by its worker on the IOC, reach ingest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky_queueserver_api import BPlan
from ingest_kit import Pipe

from queue_kit import Manager, tcp_valkey
from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.beamline.ioc.address import Address, free_ca_port
from quietbeam.core import codec
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import IngestSettings, RedisSettings, Settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection, connect

pytestmark = pytest.mark.timeout(600)
OPTIONS = ExperimentOptions(specimen="cell", lines=("P_Ka", "Fe_Ka"), shape=(3, 4), detectors=2, counts=20, seed=1)


@pytest.fixture
def address() -> Iterator[Address]:
    address = Address(prefix="QBQS:", port=free_ca_port())
    command = [sys.executable, "-m", "quietbeam", "ioc", "--speed", "0", "--seed", "1"]
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
    with tcp_valkey() as url:
        yield url


def documents(redis: Connection) -> list[tuple[str, Any]]:
    entries: Any = redis.xrange(keys.DOCS)
    return [(fields[b"name"].decode(), codec.unpack(fields[b"doc"])) for _, fields in entries]


@pytest.mark.supports("control system", "bluesky-queueserver: plans of the shipped start-up file, on the EPICS IOC")
def test_queued_plans_are_ingested(address: Address, tcp_redis: str, tmp_path: Path) -> None:
    manager = Manager(tmp_path, address, tcp_redis)
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
