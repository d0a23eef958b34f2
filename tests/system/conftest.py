"""Everything real: supervised processes, Valkey, Tiled, a RunEngine in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from quietbeam.app.ports import free_port
from quietbeam.app.supervisor import Supervisor
from quietbeam.beamline.truth import Truth
from quietbeam.buffer import RunBuffer
from quietbeam.core.settings import Settings, load_settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection, connect

LINES = ("P_Ka", "S_Ka", "Ca_Ka", "Fe_Ka")


def wait_until(predicate: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Return the first true value of `predicate`; fail with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(0.05)


@dataclass
class Installation:
    """A running quietbeam and the ways its users reach it."""

    config: Path
    settings: Settings
    supervisor: Supervisor
    connection: Connection
    scans: list[subprocess.Popen[str]] = field(default_factory=list)
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def scan(
        self, truth: Path, *options: str, transport: str = "redis", command: tuple[str, ...] = ("simulate",)
    ) -> subprocess.Popen[str]:
        """Start a scan by a RunEngine in another process; its truth goes to `truth`."""
        words = [sys.executable, "-m", "quietbeam", *command, "-c", str(self.config), "--truth", str(truth)]
        words += ["--lines", ",".join(LINES), "--transport", transport, *options]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.scans.append(process)
        return process

    def finished(self, process: subprocess.Popen[str], timeout_s: float = 120) -> str:
        """Wait for a scan to end well; return its output."""
        output, _ = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, output
        return output

    def new_run(self, known: set[str], timeout_s: float = 60) -> str:
        """Return the uid of the run that was not known before."""
        return wait_until(lambda: next(iter(set(self.uids()) - known), None), timeout_s, "a new run")

    def uids(self) -> list[str]:
        """Return the uids of all runs; nothing while Redis is away."""
        import redis

        try:
            return runs.list_runs(self.connection)
        except (redis.ConnectionError, redis.TimeoutError):
            return []

    def status(self, uid: str) -> runs.RunStatus:
        """Return a run's status; the neutral one while Redis is away."""
        import redis

        try:
            return runs.read_status(self.connection, uid) or runs.RunStatus(uid=uid)
        except (redis.ConnectionError, redis.TimeoutError):
            return runs.RunStatus(uid=uid)

    def final(self, uid: str, timeout_s: float = 120) -> runs.RunStatus:
        """Wait until the final maps of a run are in Tiled."""

        def done() -> runs.RunStatus | None:
            status = self.status(uid)
            return status if status.denoise_state == "final" and status.publish_state == "final" else None

        try:
            return wait_until(done, timeout_s, f"the final maps of {uid}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.status(uid)}\n{self.logs()}") from None

    def logs(self) -> str:
        """Return the ends of all logs."""
        logs = sorted((self.settings.data_dir / "logs").glob("*.log"))
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-8:]) for log in logs
        )

    def buffer(self, uid: str) -> RunBuffer:
        """Open a run's buffer."""
        return RunBuffer.open(self.settings.runs_dir, uid)

    def kill(self, name: str) -> int:
        """Kill a process of the installation with SIGKILL and wait for its successor; return the old pid."""
        pid = self.supervisor.pids()[name]
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: self.supervisor.pids().get(name, pid) != pid and psutil.pid_exists(self.supervisor.pids()[name]),
            60,
            f"a new {name}",
        )
        return pid

    def tiled(self) -> Any:
        """Return a Tiled client, as any user makes it."""
        from tiled.client import from_uri

        client = from_uri(self.settings.tiled_uri, api_key=self.settings.tiled_api_key())
        self.closing.callback(client.context.close)
        return client

    def http(self) -> Any:
        """Return an HTTP client of the API."""
        import httpx

        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.settings.serve.port}",
            headers={"Authorization": f"Apikey {self.settings.serve_api_key()}"},
            timeout=30,
        )


def assert_counts_equal_truth(installation: Installation, uid: str, truth: Truth) -> None:
    """Every measured count is in zarr, bit for bit, and nothing else."""
    buffer = installation.buffer(uid)
    assert truth.run_uid == uid
    assert buffer.info.lines == truth.lines and buffer.info.detectors == truth.detectors
    assert np.array_equal(buffer.measured(), truth.measured)
    assert np.array_equal(buffer.read_counts(), truth.counts)


def write_config(folder: Path, **changes: Any) -> Path:
    """Write a config for tests: embedded servers on free ports, short budgets."""
    zmq_in, zmq_out = free_port(), free_port()
    config: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "ingest": {
            "sources": ["redis", f"zmq://127.0.0.1:{zmq_out}"],
            "profiles": ["simulated", "xspress3", "xspress3-hdf5"],
            "stale_after": 3,
        },
        "embedded": {
            "tiled_port": free_port(),
            "zmq_in": f"127.0.0.1:{zmq_in}",
            "zmq_out": f"127.0.0.1:{zmq_out}",
        },
        "denoise": {"device": "cpu", "live_budget": 5, "final_budget": 2, "lease": 4},
        "serve": {"port": free_port()},
        **changes,
    }
    path = folder / "quietbeam.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One quietbeam for all system tests: starting it takes longer than any of them."""
    folder = tmp_path_factory.mktemp("qb")
    config = write_config(folder)
    settings = load_settings(config)
    supervisor = Supervisor(settings, str(config))
    connection = connect(settings.redis_url)
    installation = Installation(config, settings, supervisor, connection)
    try:
        supervisor.start()
        supervisor.wait_ready(240)
        yield installation
    finally:
        for scan in installation.scans:
            if scan.poll() is None:
                scan.kill()
                scan.wait(10)
            if scan.stdout is not None:
                scan.stdout.close()
        installation.closing.close()
        supervisor.stop()
        connection.close()
