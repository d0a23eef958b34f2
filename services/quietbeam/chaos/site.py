"""The installation that the faults meet: real servers, every stage, two workers, all in a folder of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from quietbeam.app.child import Program
from quietbeam.app.ports import free_port
from quietbeam.app.programs import programs
from quietbeam.app.supervisor import Supervisor
from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import load_settings
from quietbeam.core.wire.bus import Connection

from .machine import Clock, Disk

STAGES = ("ingest", "worker", "worker-2", "publish", "serve")
LEASE_S = 5
FAILPOINTS = {"ingest.after_write": "ingest", "publish.after_write": "publish", "publish.before_close": "publish"}
"""Where a stage ends itself between an effect and what follows from it: name -> stage."""
_FAILPOINT_EXIT = "exit code 99"
_DISK_MB = 3000


class Site:
    """A quietbeam that is up.

    Parameters
    ----------
    folder
        Empty; everything lies below.
    cannot_mount
        Why its data cannot be on disks that can be filled (:func:`quietbeam.chaos.machine.own_mounts`); empty: it can.
    report
        Gets sentences of the supervisor.

    Attributes
    ----------
    exits
        How often a program ended that nobody had killed, by "NAME: how".
    skipped
        What cannot be done on this machine, and why.
    """

    def __init__(self, folder: Path, *, cannot_mount: str, report: Callable[[str], None]) -> None:
        self.folder, self._report = folder.resolve(), report
        self.data, self.truths = self.folder / "data", self.folder / "truth"
        self.exits: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self._killed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.disks = self._mount(cannot_mount)
        self.clock = self._make_clock()
        self.config = self._write_config()
        self.settings = load_settings(str(self.config))
        self.markers = {name: self.folder / f"failed-{name}" for name in FAILPOINTS}
        for marker in self.markers.values():
            marker.touch()  # a failpoint is armed while its file is missing
        self.redis = quick_client(self.settings.redis_url)
        second = Program(
            name="worker-2",
            argv=(sys.executable, "-m", "quietbeam", "worker", "--name", "second", "-c", str(self.config)),
            ready=next(p for p in programs(self.settings, str(self.config)) if p.name == "worker").ready,
            needs=("redis",),
            patience_s=20,
        )
        self.supervisor = Supervisor(self.settings, str(self.config), report=self._said, more=(second,))

    def __enter__(self) -> Self:
        ours = {"QUIETBEAM_FAILPOINT": ",".join(f"{name}@{path}" for name, path in self.markers.items())}
        if self.clock is not None:
            ours |= self.clock.environment()
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)  # for the processes that the supervisor starts
        try:
            self.supervisor.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        try:
            self.supervisor.wait_ready(240)
        except ServiceError:
            self.supervisor.stop()
            raise
        return self

    def __exit__(self, _type: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        for disk in self.disks.values():
            disk.clear()
        self.supervisor.stop()
        self.redis.close()

    def pid(self, name: str) -> int:
        """Return the pid of a program; waits while it is being started.

        Raises
        ------
        ServiceError
            It does not run.
        """
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            pid = self.supervisor.pids().get(name)
            if pid is not None:
                return pid
            time.sleep(0.05)
        raise ServiceError(f"{name} does not run; see {self.settings.data_dir / 'logs'}")

    def end(self, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Let programs end by a signal, all at once, and return when the supervisor has noticed."""
        pids = {name: self.pid(name) for name in names}
        with self._lock:
            self._killed.update(names)
        for pid in pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        while any(self.supervisor.pids().get(name) == pid for name, pid in pids.items()):
            time.sleep(0.01)

    def hold(self, name: str, seconds: float) -> None:
        """Stop a program (SIGSTOP) for some seconds."""
        pid = self.pid(name)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)

    @property
    def ready(self) -> bool:
        """True when every program runs and does its work."""
        return self.supervisor.ready

    def given_up(self) -> list[str]:
        """Return the programs that the supervisor starts no more, or only after minutes."""
        return [name for name, state in self.supervisor.states().items() if state == "failed"]

    def _said(self, text: str) -> None:
        name, found, how = text.partition(" ended (")
        if found:
            with self._lock:
                if self._killed[name] > 0:
                    self._killed[name] -= 1
                elif not how.startswith(_FAILPOINT_EXIT):
                    self.exits[f"{name}: {how.partition(')')[0]}"] += 1
        self._report(text)

    def _mount(self, cannot: str) -> dict[str, Disk]:
        try:
            if cannot:
                raise ServiceError(cannot)
            whole = Disk(self.data, _DISK_MB)
            (self.data / "detector").mkdir(mode=0o700)
            Disk(self.data / "detector", _DISK_MB)  # another computer's
            return {"data": whole, "runs": Disk(self.data / "runs", _DISK_MB)}
        except ServiceError as error:
            self.skipped["disk"] = str(error)
            return {}

    def _make_clock(self) -> Clock | None:
        try:
            return Clock(self.folder / "clock")
        except ServiceError as error:
            self.skipped["clock"] = str(error)
            return None

    def _write_config(self) -> Path:
        config: dict[str, Any] = {
            "data_dir": str(self.data),
            "ingest": {"sources": ["redis"], "profiles": ["simulated", "xspress3-hdf5"], "stale_after": 120},
            "embedded": {"tiled_port": free_port()},
            "denoise": {"device": "cpu", "lease": LEASE_S, "live_budget": 2, "final_budget": 1, "final_within": 5},
            "serve": {"port": free_port(), "reports": False},
        }
        path = self.folder / "chaos.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path


def quick_client(url: str) -> Connection:
    """Return a client that says within two seconds that Redis does not answer."""
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
