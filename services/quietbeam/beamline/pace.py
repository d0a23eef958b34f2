"""Time at the simulated beamline: how long an exposure lasts, and the status that says it is over."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Lock, Thread


class Exposure:
    """A status in the sense of bluesky, without ophyd's thread for each one."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._done = False
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Exposure], None]] = []

    @classmethod
    def done_at_once(cls) -> Exposure:
        """Return one that is over."""
        made = cls()
        made._done = True
        return made

    @property
    def done(self) -> bool:
        """True when it is over."""
        return self._done

    @property
    def success(self) -> bool:
        """True when it is over and nothing went wrong."""
        return self._done and self._error is None

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """Return what went wrong; `timeout` is there for the protocol, nothing is waited for."""
        del timeout
        return self._error

    def add_callback(self, callback: Callable[[Exposure], None]) -> None:
        """Call `callback` when it is over."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback(self)

    def finish(self, error: BaseException | None = None) -> None:
        """Declare it over."""
        with self._lock:
            self._error, self._done = error, True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


class Pace:
    """Ends exposures at the rate of the scan, without drift: each exposure starts when the last one ended.

    Parameters
    ----------
    speed
        1 is real time, 10 ten times faster, 0 as fast as possible.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._ends = 0.0
        self._queue: deque[tuple[float, Exposure]] = deque()
        self._changed = Condition()
        self._thread: Thread | None = None

    def expose(self, seconds: float) -> float:
        """Return the monotonic time at which an exposure that is asked for now ends."""
        if not self._speed:
            return 0.0
        now = time.monotonic()
        wait = seconds / self._speed
        start = self._ends if now - self._ends < max(wait, 0.05) else now
        self._ends = max(start + wait, now)
        return self._ends

    def finish_later(self, exposure: Exposure, seconds: float) -> None:
        """Mark `exposure` as finished when an exposure of `seconds` ends."""
        if not self._speed:
            exposure.finish()
            return
        with self._changed:
            self._queue.append((self.expose(seconds), exposure))
            if self._thread is None:
                self._thread = Thread(target=self._run, name="beamline-pace", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                ends, exposure = self._queue.popleft()
            left = ends - time.monotonic()
            if left > 0:
                time.sleep(left)
            exposure.finish()
