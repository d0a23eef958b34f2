"""Run all programs of one machine, restart what dies, stop in order, leave no orphan."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog
from filelock import FileLock

from quietbeam.core.errors import ServiceError
from quietbeam.core.process.lock import HeldError, acquire
from quietbeam.core.process.stop import StopRequest
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import connect

from .child import BACKOFF_S, Child, ChildState, Program
from .programs import check_ports, environment, programs, write_settings

log = structlog.get_logger()

_POLL_S = 0.05
_REFUSED = 2
_SAME_REQUEST_S = 1.0


class Supervisor:
    """Servers and stages of one machine.

    One thread starts, watches and stops all processes; Linux ties a child to the *thread* that started it, so nothing
    outlives this process, however it ends.

    Parameters
    ----------
    settings
        What the processes shall do.
    config
        Config (path or name) that says the same to the children; None writes the settings to a file for them.
    report
        Gets sentences for people: starts, crashes, warnings of the children.
    only
        Names of programs to run; None for all that the settings ask for.
    more
        Programs to run beside these, such as a second worker.

    Examples
    --------
    ::

        with Supervisor(settings) as supervisor:
            supervisor.wait_ready()
            supervisor.pids()  # {"redis": 4711, "tiled": ...}
    """

    def __init__(
        self,
        settings: Settings,
        config: str | None = None,
        *,
        report: Callable[[str], None] | None = None,
        only: Sequence[str] | None = None,
        more: Sequence[Program] = (),
    ) -> None:
        self.settings = settings
        self._config = config
        self._report = report or (lambda text: log.info("supervisor", text=text))
        self._only, self._more = only, more
        self._folder = settings.data_dir.resolve()
        self._children: list[Child] = []
        self._stop, self._kill = StopRequest(), StopRequest()
        self._thread: threading.Thread | None = None
        self._lock: FileLock | None = None
        self._stop_requested_at, self._stop_requests = -_SAME_REQUEST_S, 0
        self.failure: str | None = None
        """Why the whole had to stop, or which processes end again and again; None while all is well."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _type: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Check lock and ports, then start everything; returns at once.

        Raises
        ------
        ServiceError
            Another supervisor has this data folder, a port is taken, or a server cannot be run here.
        InputError
            A setting is missing or wrong.
        """
        self.settings.make_data_dir()
        try:
            self._lock = acquire(self._folder / "up.lock")
        except HeldError as error:
            raise ServiceError(
                f"quietbeam is already up in {self._folder} (pid {error.pid})",
                remedy="stop that one, or choose another data_dir",
            ) from None
        try:
            self.settings.tiled_api_key()
            check_ports(self.settings)
            connect(self.settings.redis_url).close()  # refuses a wrong URL; the server itself may come later
            logs = self._folder / "logs"
            logs.mkdir(exist_ok=True, mode=0o700)
            logs.chmod(logs.stat().st_mode & 0o770)  # of an earlier version
            chosen = self._programs()
        except BaseException:
            self._release()
            raise
        variables = environment(self.settings)
        self._children = [Child(program, logs, variables) for program in chosen]
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float = 120.0, *, stop: StopRequest | None = None) -> None:
        """Wait until every process is ready; returns early when a stop is requested, here or by `stop`.

        Raises
        ------
        ServiceError
            One failed, or the time is over; with the end of its log.
        """
        stop_requested = stop or self._stop
        deadline = time.monotonic() + timeout_s
        while (
            not (self.ready or self.failure or stop_requested.is_set())
            and self._any_running()
            and time.monotonic() < deadline
        ):
            stop_requested.wait(_POLL_S)
        if self.failure:
            raise ServiceError(self.failure)
        if self.stopping or stop_requested.is_set():
            return
        not_ready = [c for c in self._children if c.state is not ChildState.READY]
        if not_ready:
            child = not_ready[0]
            raise ServiceError(
                f"{', '.join(c.name for c in not_ready)} not ready after {timeout_s:g} s; "
                f"end of {child.log_path}:\n{child.tail()}"
            )

    @property
    def stopping(self) -> bool:
        """True once a stop was requested or became necessary."""
        return self._stop.is_set()

    @property
    def ready(self) -> bool:
        """True when every process is ready."""
        return bool(self._children) and all(c.state is ChildState.READY for c in self._children)

    def pids(self) -> dict[str, int]:
        """Return name -> pid of what runs now."""
        return {c.name: pid for c in self._children if (pid := c.pid) is not None}

    def states(self) -> dict[str, str]:
        """Return name -> state."""
        return {c.name: c.state.value for c in self._children}

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until everything has stopped; True when it has."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self._any_running()

    def request_stop(self) -> None:
        """Begin the orderly stop (safe in a signal handler); a later second request kills the children, a third all.

        Requests within a second count as one: some parents signal a process and its group.
        """
        now = time.monotonic()
        if now <= self._stop_requested_at + _SAME_REQUEST_S:
            return
        self._stop_requested_at, self._stop_requests = now, self._stop_requests + 1
        self._stop.set()
        if self._stop_requests == 2:
            self._kill.set()
        elif self._stop_requests > 2:
            os._exit(1)  # nothing outlives this process

    def stop(self) -> None:
        """Stop everything in order and wait for it."""
        self._stop.set()
        self.wait()
        self._release()

    def _programs(self) -> list[Program]:
        config = self._config or write_settings(self.settings, self._folder / "effective-config.yaml")
        chosen = [p for p in programs(self.settings, config) if self._only is None or p.name in self._only]
        return [*chosen, *self._more]

    def _any_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for child in self._children:
                    self._supervise(child)
                self._stop.wait(_POLL_S)
        except Exception as error:
            log.exception("supervisor_failed")
            self._fail(f"the supervisor failed: {error}")
        finally:
            self._drain()
            self._release()

    def _supervise(self, child: Child) -> None:
        before, crashes, exits = child.state, child.crashes, child.exits
        if child.state is ChildState.IDLE and self._needs_met(child):
            child.start()
        child.poll()
        for line in child.new_warnings():
            self._say(line)
        if child.exits != exits:
            self._crashed(child)
        elif child.state is ChildState.READY and before is ChildState.STARTING:
            self._say(f"{child.name} is ready (pid {child.pid})")
        elif crashes > 0 and child.crashes == 0 and not any(c.crashes > len(BACKOFF_S) for c in self._children):
            self.failure = None

    def _needs_met(self, child: Child) -> bool:
        by_name = {c.name: c for c in self._children}
        return all(by_name[n].was_ready for n in child.program.needs if n in by_name)

    def _crashed(self, child: Child) -> None:
        refused = child.exit_code == _REFUSED and not child.was_ready
        if refused:
            child.give_up()
        if child.state is not ChildState.FAILED:
            how = f"cannot be started: {child.cannot_start}" if child.cannot_start else _exit_text(child.exit_code)
            self._say(f"{child.name} ended ({how}); it is started again")
            return
        end = f"end of {child.log_path}:\n{child.tail()}"
        if not child.was_ready:  # somebody is there who has just started it
            why = "it refuses to start" if refused else f"it ended {child.crashes} times in a row"
            self._say(f"{child.name} is given up: {why}; {end}")
            self._fail(f"{child.name} is given up: {why}; {end}")
            return
        again = f"it is started again every {child.retry_s:g} s"
        self.failure = f"{child.name} ended {child.crashes} times in a row; {again}; {end}"
        self._say(self.failure)

    def _say(self, text: str) -> None:
        """Report to people; where that cannot be written, everything goes on."""
        with suppress(OSError):
            self._report(text)

    def _fail(self, message: str) -> None:
        self.failure = message
        self._stop.set()

    def _drain(self) -> None:
        """Stages in the order of the data, so that each finds the next one still there; then the servers."""
        stages = [c for c in self._children if not c.program.server]
        servers = [c for c in reversed(self._children) if c.program.server]
        for child in (*stages, *servers):
            if child.pid is None:
                child.reaped()
                continue
            self._say(f"stopping {child.name}")
            child.signal(signal.SIGTERM)
            deadline = time.monotonic() + child.program.patience_s
            while not child.reaped() and not self._kill.is_set() and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            if not child.reaped():
                late = f"it did not stop in {child.program.patience_s:g} s"
                self._say(f"{child.name} is killed: {'a second signal came' if self._kill.is_set() else late}")
                child.signal(signal.SIGKILL)
                while not child.reaped():
                    time.sleep(_POLL_S)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
