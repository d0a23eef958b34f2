"""The Tiled of docker-compose.yml: its command and its config, as they stand there, run here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from quietbeam.app.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
KEY = "keyofthetest"


@pytest.fixture
def tiled(tmp_path: Path) -> Iterator[str]:
    """URL of a server started by the command of the compose file; only folders, host and port differ."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["tiled"]
    mounts = dict(volume.split(":")[1::-1] for volume in service["volumes"])
    program, *arguments = service["command"]
    config = Path(arguments[-1])
    assert mounts[str(config)] == "./deploy/tiled.yaml", "the command reads the file that is mounted"
    assert "/storage" in mounts, "what Tiled keeps lies in a volume"
    port = free_port()
    text = (ROOT / "deploy" / "tiled.yaml").read_text().replace("/storage", str(tmp_path / "storage"))
    (tmp_path / "storage").mkdir()
    values = yaml.safe_load(text)
    assert service["ports"] == [f"127.0.0.1:8481:{values['uvicorn']['port']}"]
    values["uvicorn"] |= {"host": "127.0.0.1", "port": port}
    (tmp_path / config.name).write_text(yaml.safe_dump(values))
    [exporter] = [host for host in mounts.values() if host.endswith("tiled_export.py")]
    shutil.copy(ROOT / exporter, tmp_path)
    command = [str(Path(sys.executable).parent / program), *arguments[:-1], str(tmp_path / config.name)]
    log = tmp_path / "tiled.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "TILED_SINGLE_USER_API_KEY": KEY}
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask what the health check of the compose file asks."""
    transport = httpx.HTTPTransport(retries=0)
    with httpx.Client(transport=transport, timeout=2) as http:
        for _ in range(2000):
            assert process.poll() is None, log.read_text()
            try:
                if http.get(f"{url}/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
    pytest.fail(f"Tiled did not become healthy: {log.read_text()}")


def test_it_starts_keeps_what_is_written_and_wants_the_key(tiled: str) -> None:
    with httpx.Client(base_url=f"{tiled}/api/v1/", timeout=20) as http:
        assert http.get("metadata/").status_code == 401
        http.headers["Authorization"] = f"Apikey {KEY}"
        body = {"id": "quietbeam", "structure_family": "container", "metadata": {}, "specs": [], "data_sources": []}
        assert http.post("metadata/", json=body).status_code == 200
        assert http.get("metadata/quietbeam").status_code == 200
        spec = {"specs": [{"name": "XRFDenoisedRun", "version": "1.0"}], "metadata": {"nested": {"a": 1}, "lines": []}}
        assert http.post("metadata/quietbeam", json={**body, **spec, "id": "run"}).status_code == 200
        file = http.get("container/full/quietbeam/run?format=h5")
        assert file.status_code == 200 and file.content.startswith(b"\x89HDF"), file.text
