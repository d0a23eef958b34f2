"""`quietbeam serve` as a process: it answers, beats, and ends on SIGTERM although a viewer looks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from quietbeam.app.doctor import examine
from quietbeam.core.settings import load_settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_command_serves_beats_and_ends(tmp_path: Path, redis_server: str, redis: Connection) -> None:
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data_dir: {tmp_path}/data\nredis: {{url: '{redis_server}'}}\nserve: {{port: {port}, api_key: secret-key}}\n"
        f"embedded: {{tiled_port: {free_port()}}}\n"
    )
    command = [sys.executable, "-c", "from quietbeam.cli import main; main()", "serve", "-c", str(config)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ})
    try:
        deadline = time.monotonic() + 60
        while not redis.hget(keys.stage("serve"), "pid"):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        assert int(redis.hget(keys.stage("serve"), "pid") or 0) == process.pid
        ports = next(f for f in examine(load_settings(config)) if f.check == "ports")
        assert ports.verdict == "ok" and "answers" in ports.found, "a port of our own is not taken by somebody else"
        with httpx.stream(
            "GET", f"http://127.0.0.1:{port}/api/v1/events", headers={"Authorization": "Apikey secret-key"}
        ) as answer:
            frames = answer.iter_lines()
            assert "event: hello" in (next(frames), next(frames))
            process.send_signal(signal.SIGTERM)
            for _ in frames:
                pass
        assert process.wait(10) == 0 or process.returncode == -signal.SIGTERM
    finally:
        process.kill()
        process.wait(10)
    text = (tmp_path / "log").read_text()
    assert "serving" in text
    assert "secret-key" not in text
    assert "Traceback" not in text


def test_an_open_bind_without_a_key_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"data_dir: {tmp_path}/data\nserve: {{host: 0.0.0.0, port: 0, anonymous_read: true}}\n")
    command = [sys.executable, "-c", "from quietbeam.cli import main; main()", "serve", "-c", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "serve.insecure" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_command_writes_the_openapi_document(tmp_path: Path) -> None:
    kept = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
    command = [sys.executable, "-c", "from quietbeam.cli import main; main()", "serve"]
    written = tmp_path / "openapi.json"
    subprocess.run([*command, "--write-openapi", str(written)], check=True, timeout=60, cwd=tmp_path)
    assert written.read_text() == kept.read_text()
