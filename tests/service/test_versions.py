"""Upgrade and downgrade: an earlier 0.1 out of the repository's history, run beside this version on the same data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from serve_kit import HEADER, KEY, with_serve
from starlette.testclient import TestClient

from browser.synthetic_run import SyntheticRun
from conftest import ValkeyProcess, wait_until
from quietbeam.core import codec
from quietbeam.core.settings import Settings, load_settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection
from quietbeam.runengine import RedisPublisher
from quietbeam.serve import create_app

ROOT = Path(__file__).resolve().parents[2]
EARLIER = "0863553bd7867c9dad4553a4d30d6a58c3216528"
"""Maps beside the counts, spools named after the URL, settings without `serve.trusted_proxies`."""
LINES = ("Ca_Ka", "Fe_Ka")
PATHS = ("", "/evidence", "/history", "/maps", "/detectors", "/advice?snr=5", "/maps/raw?format=npy")

WRITE = """
import sys
from pathlib import Path
from browser.synthetic_run import SyntheticRun
from quietbeam.core.wire.bus import connect
run = SyntheticRun(Path(sys.argv[1]), connect(sys.argv[2]), uid="earlier", shape=(6, 5), lines=("Ca_Ka", "Fe_Ka"))
run.add_rows(3)
run.denoise()
run.add_rows(3)
run.denoise(final=True)
run.finish()
"""
READ = """
import json, sys
from pathlib import Path
from starlette.testclient import TestClient
from quietbeam.buffer import RunBuffer
from quietbeam.core.settings import RedisSettings, ServeSettings, Settings
from quietbeam.serve import create_app
serve = ServeSettings(api_key="key-of-the-test", reports=False)
settings = Settings(data_dir=Path(sys.argv[1]), redis=RedisSettings(url=sys.argv[2]), serve=serve)
head = {"Authorization": "Apikey key-of-the-test"}
with TestClient(create_app(settings), headers=head, raise_server_exceptions=False) as client:
    found = {path: client.get("/api/v1/runs/later" + path) for path in json.loads(sys.argv[3])}
    state = found[""].json()["data"]["attributes"]["state"] if found[""].status_code == 200 else None
counts = int(RunBuffer.open(settings.runs_dir, "later").read_counts().sum())
answers = {path: (answer.status_code, answer.text[:200]) for path, answer in found.items()}
print(json.dumps({"answers": answers, "state": state, "counts": counts}))
"""
SPOOL = """
import sys
from quietbeam.runengine.publisher import RedisPublisher
publisher = RedisPublisher(sys.argv[1], spool_dir=sys.argv[2])
for i in range(5):
    publisher("event", {"uid": f"u{i}", "descriptor": "d", "seq_num": i, "time": 1.0, "data": {}, "timestamps": {}})
publisher.close(0.3)
"""
LOAD = "import sys; from quietbeam.core.settings import load_settings; load_settings(sys.argv[1])"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of the earlier version; nothing is installed for it, its dependencies are ours."""
    folder = tmp_path_factory.mktemp("earlier")
    git = shutil.which("git")
    if git is None:
        pytest.skip("no git")
    packed = subprocess.run(
        [git, "-C", str(ROOT), "archive", EARLIER, "services", "models", "tests", "configs"],
        capture_output=True,
        check=False,
    )
    if packed.returncode != 0:
        pytest.skip("the repository's history is not here: clone it whole")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


def run_earlier(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(folder / name) for name in ("services", "models", "tests"))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_runs_of_the_earlier_version_are_read(
    earlier: Path, settings: Settings, redis_server: str, redis: Connection
) -> None:
    done = run_earlier(earlier, WRITE, str(settings.runs_dir), redis_server)
    assert done.returncode == 0, done.stderr
    for without_redis in (False, True):
        if without_redis:
            redis.flushall()
        with TestClient(create_app(with_serve(settings, reports=False)), headers=HEADER) as client:
            codes = {path: client.get(f"/api/v1/runs/earlier{path}").status_code for path in PATHS}
            run = client.get("/api/v1/runs/earlier").json()["data"]["attributes"]
            assert codes == dict.fromkeys(PATHS, 200)
            assert run["denoise"]["state"] == "final" and run["maps_version"] == 2
            assert {line["line"] for line in run["evidence"]["lines"]} == set(LINES)


def test_the_earlier_version_reads_runs_of_this_one_or_says_that_it_cannot(
    earlier: Path, settings: Settings, redis_server: str, redis: Connection
) -> None:
    run = SyntheticRun(settings.runs_dir, redis, uid="later", shape=(6, 5), lines=LINES)
    run.add_rows(6)
    run.denoise(final=True)
    run.finish()
    done = run_earlier(earlier, READ, str(settings.data_dir), redis_server, json.dumps(PATHS))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["counts"] == int(run.buffer.read_counts().sum())
    assert found["state"] == "complete"
    codes = {path: code for path, (code, _) in found["answers"].items()}
    assert set(codes.values()) <= {200, 404}, found["answers"]
    assert [path for path, code in codes.items() if code == 404] == ["/maps/raw?format=npy"], "maps lie elsewhere now"


def test_a_spool_of_the_earlier_version_is_sent(earlier: Path, valkey_process: ValkeyProcess, tmp_path: Path) -> None:
    valkey_process.kill()
    done = run_earlier(earlier, SPOOL, valkey_process.url, str(tmp_path / "spool"))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "spool").glob("*.spool"))
    valkey_process.start()
    publisher = RedisPublisher(valkey_process.url, spool_dir=tmp_path / "spool")
    from quietbeam.core.wire.bus import connect

    connection = connect(valkey_process.url)
    wait_until(lambda: connection.xlen(keys.DOCS) == 5, what="the documents of the spool")
    assert publisher.close(5)
    entries: Any = connection.xrange(keys.DOCS)
    assert [codec.unpack(fields[b"doc"])["seq_num"] for _, fields in entries] == list(range(5))
    connection.close()


def test_settings_of_the_earlier_version_hold_and_new_ones_are_named_there(earlier: Path, tmp_path: Path) -> None:
    for path in sorted((earlier / "configs").glob("*.yaml")):
        assert load_settings(path)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"serve": {"trusted_proxies": ["127.0.0.1"], "port": 1}}), encoding="utf-8")
    assert load_settings(config).serve.trusted_proxies == ("127.0.0.1",)
    done = run_earlier(earlier, LOAD, str(config))
    assert done.returncode != 0
    assert "serve.trusted_proxies" in done.stderr


def test_keys_of_the_earlier_version_open_this_one(earlier: Path, settings: Settings, redis_server: str) -> None:
    code = (
        "import sys; from pathlib import Path; from quietbeam.serve.access.api_keys import KeyStore;"
        "from quietbeam.serve.access import Scope;"
        "print(KeyStore(Path(sys.argv[1])).create('ann', [Scope.READ_METADATA])[0])"
    )
    done = run_earlier(earlier, code, str(settings.secrets_dir / "api_keys.json"))
    assert done.returncode == 0, done.stderr
    with TestClient(create_app(with_serve(settings))) as client:
        assert client.get("/api/v1/runs", headers={"Authorization": f"Apikey {done.stdout.strip()}"}).status_code == 200
        assert client.get("/api/v1/runs", headers={"Authorization": f"Apikey {KEY}"}).status_code == 200
