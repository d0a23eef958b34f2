"""`quietbeam up` with a config written by hand, beside a Redis and a Tiled that were there before."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from quietbeam.app.ports import free_port
from quietbeam.buffer import RunBuffer
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import connect

from .conftest import wait_until

pytestmark = pytest.mark.system

KEY = "keyofthefacility"
CONFIG = """
data_dir: {data}
redis: {{url: "{redis}"}}
tiled: {{uri: "{tiled}"}}
ingest: {{sources: [redis], profiles: [simulated]}}
denoise: {{device: cpu, live_budget: 3, final_budget: 1}}
serve: {{port: {port}}}
"""


@pytest.fixture
def facility_tiled(tmp_path: Path) -> Iterator[str]:
    """URI of a Tiled of the facility's own, started as its users start it."""
    port = free_port()
    program = Path(sys.executable).parent / "tiled"
    command = [str(program), "serve", "catalog", "--temp", "--api-key", KEY, "--port", str(port)]
    with (tmp_path / "tiled.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "tiled.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers, 60, "the facility's Tiled")
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def quietbeam(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command of quietbeam with the facility's key in its environment."""

    def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "quietbeam", *arguments],
            env={**os.environ, "QUIETBEAM_TILED__API_KEY": KEY},
            cwd=tmp_path,
            text=True,
            **options,  # type: ignore[call-overload]
        )

    return start


def test_everything_lands_in_the_facilitys_servers(
    tmp_path: Path,
    valkey_process: Any,
    facility_tiled: str,
    quietbeam: Callable[..., subprocess.Popen[str]],
) -> None:
    config = tmp_path / "beamline.yaml"
    port = free_port()
    data = tmp_path / "data"
    config.write_text(CONFIG.format(data=data, redis=valkey_process.url, tiled=facility_tiled, port=port))

    doctor = quietbeam("doctor", "--json", "-c", str(config), stdout=subprocess.PIPE)
    said, _ = doctor.communicate(timeout=60)
    findings = {finding["check"]: finding for finding in map(json.loads, said.splitlines())}
    assert doctor.returncode == 0, said
    assert facility_tiled in findings["Tiled"]["found"] and valkey_process.url in findings["Redis"]["found"]

    with (tmp_path / "up.log").open("w") as log:
        up = quietbeam("up", "-c", str(config), stdout=log, stderr=log)
    children: list[psutil.Process] = []
    try:
        wait_until(lambda: "\nData " in (tmp_path / "up.log").read_text() or up.poll() is not None, 120, "quietbeam up")
        assert up.poll() is None, (tmp_path / "up.log").read_text()
        children = psutil.Process(up.pid).children(recursive=True)
        assert len(children) == 4, "no server of our own where the facility has one"

        scan = quietbeam("simulate", "-c", str(config), "--shape", "10x12", "--lines", "Ca_Ka,Fe_Ka", "--speed", "0")
        assert scan.wait(60) == 0
        connection = connect(valkey_process.url)
        (uid,) = runs.list_runs(connection)
        wait_until(lambda: (s := runs.read_status(connection, uid)) and s.publish_state == "final", 120, "final maps")

        from tiled.client import from_uri

        client = from_uri(facility_tiled, api_key=KEY)
        run = client["quietbeam"][uid]
        buffer = RunBuffer.open(data / "runs", uid)
        for kind in ("raw", "denoised", "uncertainty"):
            assert np.array_equal(run[kind].read(), buffer.read_map(kind))
        assert run.metadata["evidence"]["final"] is True
        client.context.http_client.close()

        key = (data / "secrets" / "api_key").read_text()
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/runs/{uid}", headers={"Authorization": f"Apikey {key}"})
        assert answer.json()["data"]["attributes"]["publish"]["state"] == "final"

        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
        assert not any(child.is_running() for child in children), "an orphan is left"
        assert connection.ping(), "the facility's Redis stays"
        connection.close()
    finally:
        for process in (*children, up):
            if process.is_running() if isinstance(process, psutil.Process) else process.poll() is None:
                process.kill()
        up.wait(10)
    said = (tmp_path / "up.log").read_text()
    assert KEY not in said, "the facility's key is not repeated"
