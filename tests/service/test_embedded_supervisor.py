"""The supervisor with real processes: restarts, refusals, order of the stop, no orphans."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis as redis_py

from quietbeam.app import Supervisor, child, supervisor
from quietbeam.app.child import Child, Program
from quietbeam.app.doctor import examine
from quietbeam.app.programs import programs
from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.redis_socket import socket_path
from quietbeam.core.settings import EmbeddedSettings, ServeSettings, Settings, TiledSettings
from quietbeam.embedded import valkey


def wait_until(predicate: Callable[[], Any], timeout_s: float = 20.0, what: str = "the condition") -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.01)
    return value


def free_ports(n: int) -> list[int]:
    probes = [socket.socket() for _ in range(n)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    """Settings with an embedded Redis and 0MQ proxy of their own."""
    serve, tiled, zmq_in, zmq_out = free_ports(4)
    return Settings(
        data_dir=tmp_path / "data",
        serve=ServeSettings(port=serve),
        embedded=EmbeddedSettings(tiled_port=tiled, zmq_in=f"127.0.0.1:{zmq_in}", zmq_out=f"127.0.0.1:{zmq_out}"),
    )


def redis_of(settings: Settings) -> redis_py.Redis:
    return redis_py.Redis(unix_socket_path=str(socket_path(settings.data_dir)))


def test_killed_redis_comes_back_with_its_data(alone: Settings) -> None:
    said: list[str] = []
    with Supervisor(alone, only=["redis", "zmq"], report=said.append) as up:
        up.wait_ready(30)
        redis_of(alone).set("kept", "yes")
        info: dict[str, Any] = redis_of(alone).info()
        assert info["maxmemory_policy"] == "noeviction" and info["aof_enabled"] == 1
        old = up.pids()["redis"]
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: up.pids().get("redis", old) != old and up.ready, what="a new Redis")
        assert redis_of(alone).get("kept") == b"yes"
        pids = up.pids()
        assert set(pids) == {"redis", "zmq"}
    assert not [pid for pid in pids.values() if psutil.pid_exists(pid)]
    assert any("killed by SIGKILL" in line for line in said)
    assert up.failure is None


def test_documents_pass_the_embedded_proxy(alone: Settings) -> None:
    import zmq

    with Supervisor(alone, only=["zmq"]) as up:
        up.wait_ready(30)
        context = zmq.Context()
        source, sink = context.socket(zmq.PUB), context.socket(zmq.SUB)
        try:
            sink.connect(f"tcp://{alone.embedded.zmq_out}")
            sink.setsockopt(zmq.SUBSCRIBE, b"")
            source.connect(f"tcp://{alone.embedded.zmq_in}")

            def passed() -> bool:
                source.send(b"prefix start doc")
                return bool(sink.poll(20)) and sink.recv() == b"prefix start doc"

            wait_until(passed, what="a document through the proxy")
        finally:
            context.destroy(linger=0)


def test_second_supervisor_on_a_data_dir_is_refused(alone: Settings) -> None:
    with Supervisor(alone, only=["redis"]) as up:
        up.wait_ready(30)
        with pytest.raises(ServiceError, match=rf"already up in .*\(pid {os.getpid()}\).*another data_dir"):
            Supervisor(alone, only=["redis"]).start()
        ports = [f for f in examine(alone) if f.check == "ports"]
        assert ports[0].verdict == "ok" and str(os.getpid()) in ports[0].found
    with Supervisor(alone, only=["redis"]) as again:
        again.wait_ready(30)


def test_busy_port_names_the_setting(alone: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", alone.serve.port))
        other.listen()
        with pytest.raises(ServiceError, match=r"serve\.port.*QUIETBEAM_SERVE__PORT"):
            Supervisor(alone, only=["redis"]).start()
        found = {f.check: f for f in examine(alone)}
        assert found["ports"].verdict == "failure" and "serve.port" in found["ports"].remedy


def test_left_over_redis_is_stopped_and_its_data_kept(alone: Settings) -> None:
    left = subprocess.Popen(valkey.command(alone), stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: valkey.is_ready(alone), what="the first server")
        redis_of(alone).set("kept", "yes")
        with Supervisor(alone, only=["redis"]) as up:
            up.wait_ready(30)
            assert up.pids()["redis"] != left.pid
            assert redis_of(alone).get("kept") == b"yes"
        assert left.wait(10) == 0
    finally:
        left.kill()
        left.wait(10)


def test_no_orphan_when_the_supervisor_is_killed(alone: Settings, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(alone.model_dump(mode="json", include={"data_dir", "serve", "embedded"})))
    code = (
        "import json, sys\n"
        "from quietbeam.app import Supervisor\n"
        "from quietbeam.core.settings import load_settings\n"
        "up = Supervisor(load_settings(sys.argv[1]), sys.argv[1], only=['redis', 'zmq'], report=lambda text: None)\n"
        "up.start(); up.wait_ready(30); print(json.dumps(up.pids()), flush=True); up.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(config)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        assert set(pids) == {"redis", "zmq"} and all(map(psutil.pid_exists, pids.values()))
    finally:
        parent.kill()
        parent.communicate(timeout=10)
    wait_until(lambda: not any(map(_runs, pids.values())), 10, "the end of all children")
    with Supervisor(alone, only=["redis", "zmq"]) as up:
        up.wait_ready(30)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- small programs in place of servers and stages --------------------------------------------------------------


def program(name: str, code: str, *, server: bool = False, ready: Path | None = None, **options: Any) -> Program:
    """Return a Python one-liner that counts as ready once its file exists."""
    return Program(
        name=name,
        argv=(sys.executable, "-c", code),
        ready=lambda _: ready is None or ready.exists(),
        server=server,
        **options,
    )


@pytest.fixture
def run_programs(alone: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Supervisor]:
    monkeypatch.setattr(child, "BACKOFF_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(child, "RETRY_S", 0.3)

    def make(*programs: Program, report: Callable[[str], None] | None = None) -> Supervisor:
        monkeypatch.setattr(supervisor, "programs", lambda _settings, _config: list(programs))
        return Supervisor(alone, report=report)

    return make


SLEEP = "import signal; signal.pause()"


def stopper(name: str, order: Path, ready: Path) -> str:
    return (
        "import signal, sys, pathlib\n"
        "def stop(*_):\n"
        f"    open({str(order)!r}, 'a').write({name!r} + ' '); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "signal.pause()\n"
    )


def test_stages_stop_in_the_order_of_the_data_then_the_servers(
    run_programs: Callable[..., Supervisor], tmp_path: Path
) -> None:
    order = tmp_path / "order"

    def one(name: str, *, server: bool = False) -> Program:
        ready = tmp_path / f"{name}-is-up"
        return program(name, stopper(name, order, ready), server=server, ready=ready)

    up = run_programs(one("redis", server=True), one("tiled", server=True), one("ingest"), one("worker"), one("serve"))
    up.start()
    up.wait_ready(20)
    up.stop()
    assert order.read_text().split() == ["ingest", "worker", "serve", "tiled", "redis"]
    assert set(up.states().values()) == {"stopped"} and up.failure is None


@pytest.mark.parametrize("server", [False, True], ids=["stage", "server"])
def test_crash_loop_is_loud_and_tried_again_and_the_others_go_on(
    run_programs: Callable[..., Supervisor], tmp_path: Path, server: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = tmp_path / "allowed"
    allowed.touch()
    code = f"import os, sys, signal\nif os.path.exists({str(allowed)!r}): signal.pause()\nsys.exit('out of coffee')"
    said: list[str] = []
    if server:  # its own pause counts
        monkeypatch.setattr(child, "RETRY_S", 3600.0)
    worker = program("worker", code, server=server, retry_s=0.3 if server else None)
    up = run_programs(program("ingest", SLEEP), worker, report=said.append)
    with up:
        up.wait_ready(20)
        allowed.unlink()
        os.kill(up.pids()["worker"], signal.SIGKILL)
        wait_until(lambda: up.states()["worker"] == "failed", what="longer pauses")
        assert up.states()["ingest"] == "ready" and not up.stopping
        assert up.failure is not None and "out of coffee" in up.failure
        wait_until(lambda: any("ended 5 times in a row" in line for line in said), what="another try")
        allowed.touch()
        wait_until(lambda: up.ready, what="a start that succeeds")
        monkeypatch.setattr(child, "STEADY_S", 0.1)
        wait_until(lambda: up.ready and up.failure is None, what="the end of the trouble")
    assert sum("it is started again" in line and "times" not in line for line in said) == 3
    assert any("every 0.3 s" in line and "worker.log" in line for line in said)


def test_a_redis_that_its_full_disk_ended_is_back_soon_after(alone: Settings) -> None:
    (redis,) = (one for one in programs(alone, "c.yaml") if one.name == "redis")
    assert redis.retry_s is not None and redis.retry_s <= 5


def test_a_full_disk_or_a_closed_terminal_does_not_end_the_supervisor(
    run_programs: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_text: str) -> None:
        raise OSError(28, "No space left on device")

    full = []
    real = child.subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        if len(full) < 2:
            full.append(1)
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(child.subprocess, "Popen", popen)
    up = run_programs(program("ingest", SLEEP), report=closed)
    with up:
        up.wait_ready(20)
        assert len(full) == 2 and up.failure is None


def test_a_server_that_never_starts_stops_everything(run_programs: Callable[..., Supervisor]) -> None:
    never = Path("/nowhere/ready")
    code = "raise SystemExit('disk full')"
    up = run_programs(program("redis", code, server=True, ready=never), program("ingest", SLEEP))
    up.start()
    assert up.wait(20)
    assert up.failure is not None and "disk full" in up.failure and up.pids() == {}
    up.stop()


def test_stage_that_refuses_its_settings_is_not_tried_again(
    run_programs: Callable[..., Supervisor], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    code = f"import sys; open({str(starts)!r}, 'a').write('x'); print('quietbeam: wrong profile'); sys.exit(2)"
    up = run_programs(program("ingest", code, ready=tmp_path / "never"))
    up.start()
    with pytest.raises(ServiceError, match=r"(?s)refuses to start.*wrong profile"):
        up.wait_ready(20)
    up.stop()
    assert starts.read_text() == "x"


def test_second_stop_request_kills(run_programs: Callable[..., Supervisor], tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import signal, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "while True: signal.pause()"
    )
    said: list[str] = []
    up = run_programs(program("serve", code, ready=ready, patience_s=60), report=said.append)
    up.start()
    up.wait_ready(20)
    up.request_stop()
    wait_until(lambda: "stopping serve" in said, what="the orderly stop")
    up.request_stop()
    assert not up.wait(1.1), "requests in the same second are one"
    up.request_stop()
    assert up.wait(10) and said.count("serve is killed: a second signal came") == 1
    up.stop()


def test_a_stage_that_does_not_stop_in_its_grace_is_killed_and_a_third_request_ends_everything(
    run_programs: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(1, flush=True)\nwhile True: signal.pause()"
    )
    said: list[str] = []
    up = run_programs(program("worker", deaf, patience_s=0.3), report=said.append)
    up.start()
    up.wait_ready(20)
    wait_until(lambda: (up.settings.data_dir / "logs" / "worker.log").read_text().startswith("1"))
    up.stop()
    assert "worker is killed: it did not stop in 0.3 s" in said

    ended: list[int] = []
    monkeypatch.setattr(supervisor.os, "_exit", ended.append)
    monkeypatch.setattr(supervisor, "_SAME_REQUEST_S", -1.0)
    for expected in ([], [], [1]):
        up.request_stop()
        assert ended == expected


def test_warnings_of_children_are_repeated_and_their_logs_rotated(
    run_programs: Callable[..., Supervisor], alone: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOG_BYTES", 10)
    logs = alone.data_dir / "logs"
    logs.mkdir(parents=True)
    (logs / "ingest.log").write_text("an old and long log\n")
    lines = [{"level": "info", "event": "fine"}, {"level": "warning", "event": "gap", "run": "r1", "stage": "ingest"}]
    code = f"print({chr(10).join(map(json.dumps, lines))!r}, flush=True); {SLEEP}"
    said: list[str] = []
    with run_programs(program("ingest", code), report=said.append) as up:
        up.wait_ready(20)
        wait_until(lambda: "ingest: warning: gap run=r1" in said, what="the warning")
    assert not any("fine" in line for line in said)
    assert (logs / "ingest.log.1").read_text() == "an old and long log\n"


def test_warnings_of_an_earlier_installation_are_no_news(tmp_path: Path) -> None:
    (tmp_path / "ingest.log").write_text('{"level": "error", "event": "yesterday"}\n')
    waiting = Child(program("ingest", SLEEP), tmp_path, {})
    assert list(waiting.new_warnings()) == [] and waiting.tail() == ""


def test_a_wrong_redis_url_is_refused_before_anything_starts(alone: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis-without-scheme:6379")
    with pytest.raises(InputError, match="REDIS_URL"):
        Supervisor(alone).start()


def test_children_get_the_settings_but_no_secret_on_disk(alone: Settings) -> None:
    changed = alone.model_copy(update={"tiled": TiledSettings(uri="http://127.0.0.1:9/api/v1", api_key="abc123secret")})
    with Supervisor(changed, only=["zmq"]) as up:
        up.wait_ready(30)
        written = (alone.data_dir / "effective-config.yaml").read_text()
        environment = psutil.Process(up.pids()["zmq"]).environ()
    assert "abc123secret" not in written and "http://127.0.0.1:9/api/v1" in written
    assert environment["QUIETBEAM_TILED__API_KEY"] == "abc123secret"
    from quietbeam.core.settings import load_settings

    assert load_settings(alone.data_dir / "effective-config.yaml").serve.port == alone.serve.port


def test_child_that_never_ran_is_gone(tmp_path: Path) -> None:
    assert Child(program("x", SLEEP), tmp_path, {}).reaped()


def test_doctor_examines_a_facility_redis(settings: Settings, redis: Any) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = {f.check: f for f in examine(settings)}
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
    assert found["Redis"].verdict == "ok"
    assert found["Redis eviction"].verdict == "failure" and "noeviction" in found["Redis eviction"].remedy
    assert {f.check for f in examine(settings)} >= {"Python", "torch", "weights", "disk", "ports", "Tiled"}


def test_doctor_says_that_an_external_tiled_is_away(settings: Settings) -> None:
    (port,) = free_ports(1)
    away = settings.model_copy(update={"tiled": TiledSettings(uri=f"http://127.0.0.1:{port}", api_key="abc")})
    tiled = next(f for f in examine(away) if f.check == "Tiled")
    assert tiled.verdict == "failure" and "tiled.uri" in tiled.remedy
