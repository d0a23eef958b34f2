"""One supervised process: start, readiness, log file, back-off after a crash, orderly stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import orjson

from quietbeam.core.errors import QuietbeamError

PARENT_DEATH = Path(__file__).with_name("parent_death.py")
LOG_BYTES = 10 * 2**20
BACKOFF_S = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Waits before the next start; with one more crash in a row than entries it is a mistake of the program."""
RETRY_S = 180.0
"""Wait before the next start of a process that crashed so often."""
STEADY_S = 30.0
"""A process that ran for so long starts again with the shortest wait."""


class ChildState(StrEnum):
    """Where a process is in its life."""

    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """Crashed; will be started again."""
    FAILED = "failed"
    """Crashed again and again; started again every `retry_s`."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run.

    Attributes
    ----------
    name
        Short name, also of the log file.
    argv
        Command and arguments.
    ready
        Given the pid, True once the process does its work; quick, never raises.
    needs
        Names of programs that must be ready first.
    before
        Called before each start.
    patience_s
        How long an orderly stop may take.
    server
        True for the servers that the stages stand on: they stop last, and nothing goes on without them.
    retry_s
        Wait before the next start when it ended again and again; None for `RETRY_S`.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[int], bool]
    needs: tuple[str, ...] = ()
    before: Callable[[], object] = lambda: None
    patience_s: float = 15.0
    server: bool = False
    retry_s: float | None = None


class Child:
    """A running program. All methods are called by one thread (the parent's death is that thread's death)."""

    def __init__(self, program: Program, logs: Path, environment: Mapping[str, str]) -> None:
        self.program = program
        self.state = ChildState.IDLE
        self.crashes = self.exits = 0
        """Ends in a row, and ends at all."""
        self.exit_code: int | None = None
        self.cannot_start = ""
        """Why the last start was not possible; empty when it was."""
        self.log_path = logs / f"{program.name}.log"
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._next_start = self._next_probe = 0.0
        # What an earlier process logged is not reported again.
        self._log_offset = self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        self._ever_ready = False

    @property
    def name(self) -> str:
        """Name of the program."""
        return self.program.name

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def retry_s(self) -> float:
        """Wait before the next start when it ended again and again [s]."""
        return RETRY_S if self.program.retry_s is None else self.program.retry_s

    @property
    def was_ready(self) -> bool:
        """True when it was ready at least once."""
        return self._ever_ready

    def start(self) -> None:
        """Start it in its own process group, with its output appended to the log file."""
        self._started = time.monotonic()
        try:
            self.program.before()
            self._rotate()
            with self.log_path.open("ab") as log:
                self._log_offset = self._log_start = log.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), *self.program.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    process_group=0,
                )
        except (OSError, QuietbeamError) as error:  # no space for its log, no memory for a process
            self.cannot_start = str(error)
            self._exited(None, self._started)
            return
        self.cannot_start = ""
        self.state = ChildState.STARTING

    def poll(self) -> None:
        """Advance the state after an exit, readiness or the end of a back-off."""
        now = time.monotonic()
        if self.state in (ChildState.WAITING, ChildState.FAILED) and now >= self._next_start:
            self.start()
        if self._process is None:
            return
        if (code := self._process.poll()) is not None:
            self._exited(code, now)
        elif self.state is ChildState.STARTING and now >= self._next_probe:
            if self.program.ready(self._process.pid):
                self.state, self._ever_ready = ChildState.READY, True
            self._next_probe = now + 0.1
        elif self.state is ChildState.READY and now - self._started > STEADY_S:
            self.crashes = 0

    def _exited(self, code: int | None, now: float) -> None:
        self._process, self.exit_code = None, code
        self.exits += 1
        self.crashes = 1 if now - self._started > STEADY_S else self.crashes + 1
        if self.crashes > len(BACKOFF_S):
            self.state, self._next_start = ChildState.FAILED, now + self.retry_s
            return
        self.state = ChildState.WAITING
        self._next_start = now + BACKOFF_S[self.crashes - 1]

    def give_up(self) -> None:
        """Do not start it again."""
        self.state, self._next_start = ChildState.FAILED, float("inf")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group, if it is there."""
        if self._process is not None and self._process.poll() is None:
            target = os.killpg if number == signal.SIGKILL else os.kill
            target(self._process.pid, number)

    def reaped(self) -> bool:
        """Return True when the process has ended (or never ran); marks it stopped."""
        if self._process is None or self._process.poll() is not None:
            if self._process is not None:
                self.exit_code, self._process = self._process.returncode, None
            if self.state is not ChildState.FAILED:
                self.state = ChildState.STOPPED
            return True
        return False

    def _rotate(self) -> None:
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))

    def new_warnings(self) -> Iterator[str]:
        """Yield warnings and errors that the process logged since the last call, one line each."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_offset)
                fresh = log.read(2**20)
        except FileNotFoundError:
            return
        whole = fresh[: fresh.rfind(b"\n") + 1] if len(fresh) < 2**20 else fresh
        self._log_offset += len(whole)
        for line in whole.splitlines():
            if not line.startswith(b"{"):
                continue
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if entry.get("level") in ("warning", "error", "critical"):
                level, event = entry.pop("level"), entry.pop("event", "")
                rest = " ".join(f"{k}={v}" for k, v in entry.items() if k not in ("timestamp", "stage", "exception"))
                yield f"{self.name}: {level}: {event} {rest}".rstrip()

    def tail(self, lines: int = 12) -> str:
        """Return the last lines that the process logged since it was started."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(self._log_start, self.log_path.stat().st_size - 16384))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""
