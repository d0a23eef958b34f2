"""Folders of any name, links to folders, users without home or name, any time zone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from serve_kit import HEADER, make_run, with_serve
from starlette.testclient import TestClient

from conftest import wait_until
from quietbeam.app.ports import free_port
from quietbeam.app.programs import programs
from quietbeam.core.errors import InputError
from quietbeam.core.settings import RedisSettings, Settings
from quietbeam.core.wire.bus import Connection, connect
from quietbeam.embedded import valkey
from quietbeam.runengine.spool_target import canonical
from quietbeam.serve import create_app

NAMES = ["XRF data", "o'neil", 'a"b', "a#b", "a%20b", "größe α", "a\\b", "a;b", "$HOME", "a:b", "-x", "~"]


@contextmanager
def embedded(settings: Settings) -> Iterator[Connection]:
    process = subprocess.Popen(valkey.command(settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    connection = connect(settings.redis_url)
    try:
        wait_until(lambda: valkey.is_ready(settings), what="the embedded server")
        yield connection
    finally:
        connection.close()
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(data_dir=tmp_path / name, redis=RedisSettings())
    with embedded(settings) as connection:
        assert connection.set("a", 1)
        assert canonical(settings.redis_url) == f"unix:{(tmp_path / name).resolve()}/redis/valkey.sock/0"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a?b", "a\nb"])
def test_a_folder_that_tiled_cannot_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="question mark or a line end"):
        programs(Settings(data_dir=tmp_path / name, redis=RedisSettings(url="redis://x")), "c.yaml")
    assert programs(
        Settings(
            data_dir=tmp_path / name,
            redis=RedisSettings(url="redis://x"),
            tiled={"uri": "http://tiled", "api_key": "abc"},  # type: ignore[arg-type]
        ),
        "c.yaml",
    )


def test_a_data_folder_may_be_a_link(tmp_path: Path, settings: Settings, redis: Connection) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk", target_is_directory=True)
    settings = with_serve(settings.model_copy(update={"data_dir": tmp_path / "link"}))
    make_run(settings, redis)
    with TestClient(create_app(settings), headers=HEADER) as client:
        for path in ("", "/maps/raw?format=npy", "/report"):
            assert client.get(f"/api/v1/runs/run-1{path}").status_code == 200


STRANGER = """
import pwd, runpy, sys

def nobody(_uid):
    raise KeyError("getpwuid(): uid not found")

pwd.getpwuid = nobody
sys.argv[:] = ["quietbeam", *sys.argv[1:]]
runpy.run_module("quietbeam", run_name="__main__")
"""


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", ":nonsense"])
def test_a_service_runs_for_a_user_without_home_and_name(
    settings: Settings, redis: Connection, tmp_path: Path, zone: str
) -> None:
    """As in a container with a number for a user: neither HOME nor an entry in /etc/passwd."""
    run = make_run(settings, redis)
    run.denoise(final=True)
    port, config = free_port(), tmp_path / "c.yaml"
    config.write_text(
        f"data_dir: {settings.data_dir}\nredis: {{url: '{settings.redis_url}'}}\n"
        f"serve: {{port: {port}, api_key: key-of-the-test}}\n",
        encoding="utf-8",
    )
    environment = {"PATH": os.environ["PATH"], "TZ": zone, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", STRANGER, "serve", "-c", str(config)]
    service = subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def is_up() -> bool:
        assert service.poll() is None, service.communicate()[0].decode()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(is_up, 40, "the service")
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/runs/run-1/report", headers=HEADER)
        assert answer.status_code == 200
        assert "UTC" in answer.text
    finally:
        service.terminate()
        service.communicate(timeout=20)
