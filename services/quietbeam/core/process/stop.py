"""A request to stop that a signal handler may make: neither the request nor the wait for it takes a lock.

``threading.Event`` does not do here. Its ``set()`` takes the lock that ``wait()`` holds. When a signal interrupts
``wait()`` in the main thread at that moment, the handler waits for its own thread for ever.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

_POLL_S = 0.05
_SAME_REQUEST_S = 1.0


class StoppedError(Exception):
    """Ends a computation whose result nobody needs any more, because the process stops."""


class StopRequest:
    """A flag that is set once. Any thread, and any signal handler, may set, read and await it."""

    def __init__(self) -> None:
        self._set = False
        self.at_once = False
        """While True, a signal ends the process at once, with exit code 0: nothing is in hand."""
        self.signal: signal.Signals | None = None
        """The signal that asked for the stop; None when there was none."""

    def set(self) -> None:
        """Ask for the stop."""
        self._set = True

    def is_set(self) -> bool:
        """Return True once the stop was asked for."""
        return self._set

    def check(self) -> None:
        """Raise :class:`StoppedError` once the stop was asked for."""
        if self._set:
            raise StoppedError

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the stop is asked for, at most `timeout_s` seconds; True when it was asked for."""
        deadline = time.monotonic() + timeout_s
        while not self._set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_S))
        return self._set


def stop_on_signals() -> StopRequest:
    """Return a request that SIGTERM and SIGINT set (main thread only); a second signal ends the process at once."""
    stop = StopRequest()

    def first(number: int) -> None:
        # No log and no print here: both take locks that the interrupted code may hold.
        if stop.at_once:
            os._exit(0)
        stop.signal = signal.Signals(number)
        stop.set()

    handler = on_first_signal(first)
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
    return stop


def interrupt_on_sigint() -> None:
    """Let the first SIGINT raise KeyboardInterrupt, and a second one end the process at once (main thread only)."""

    def first(_number: int) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, on_first_signal(first))


def on_first_signal(first: Callable[[int], object]) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that calls `first` once, and ends the process at once at a second signal.

    Signals within a second count as one: some parents signal a process and its group. `first` must take no lock.
    """
    first_at: float | None = None

    def handler(number: int, _frame: FrameType | None = None) -> None:
        nonlocal first_at
        now = time.monotonic()
        if first_at is None:
            first_at = now
            first(number)
        elif now - first_at > _SAME_REQUEST_S:
            os._exit(128 + number)

    return handler
