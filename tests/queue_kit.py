"""A real RE Manager with the shipped start-up file, and a Valkey on TCP for its queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from bluesky_queueserver_api import BPlan
from bluesky_queueserver_api.zmq import REManagerAPI

from conftest import ValkeyProcess
from quietbeam.app.ports import free_port
from quietbeam.beamline.ioc.address import Address
from quietbeam.core.settings import configs_dir

PROFILE = configs_dir() / "queueserver"


@contextmanager
def tcp_valkey() -> Iterator[str]:
    """Yield the URL of a Valkey on a TCP port, as a RE Manager wants it."""
    port = free_port()
    server = ValkeyProcess("--port", str(port), "--bind", "127.0.0.1")
    server.start()
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.close()


class Manager:
    """A RE Manager with the shipped start-up file, and its API.

    `queue` is the Redis (TCP) that it keeps its queue in, where that is not quietbeam's; `more` goes into its
    environment.
    """

    def __init__(self, folder: Path, address: Address, redis_url: str, queue: str = "", **more: str) -> None:
        control, info = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self.log = folder / "manager.log"
        environment = {
            **os.environ,
            **address.client_environment(),
            "REDIS_URL": redis_url,
            "QUIETBEAM_IOC_PREFIX": address.prefix,
            "QUIETBEAM_SPOOL": str(folder / "spool"),
            "OMP_NUM_THREADS": "1",
            **more,
        }
        command = [str(Path(sys.executable).parent / "start-re-manager"), "--startup-dir", str(PROFILE)]
        command += [
            "--existing-plans-devices",
            str(folder),
            "--redis-addr",
            (queue or redis_url).removeprefix("redis://"),
        ]
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
        try:
            self._close_api()
        finally:
            self._end()

    def _close_api(self) -> None:
        self.api.close()
        monitors = self.api._console_monitor, self.api._system_info_monitor
        for context in (self.api._client._ctx, *(monitor._rco._socket.context for monitor in monitors)):
            context.destroy(linger=0)  # the API leaves its 0MQ contexts to the garbage collector

    def _end(self) -> None:
        """End it with its children, which outlive it when it is killed."""
        family: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        _, left = psutil.wait_procs(family, timeout=5)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
