"""Cooperative scheduling: rows that arrive are served while a long computation runs, in its own thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERVAL_S = 0.05
"""Shortest time between two calls of the callback."""
MOST_S = 0.4
"""Longest time between two calls, as far as the computation can be interrupted."""


class CooperativeSchedule:
    """Calls a callback every `INTERVAL_S` during a computation, for half of the time at most.

    A call that takes long is followed by a pause as long as itself, up to `MOST_S`: rows that arrive meanwhile are
    served together, which costs hardly more than one. The computation calls :meth:`yield_now`, or hands
    :attr:`yield_callback` on, at points where it can be interrupted. The callback itself is not interrupted.
    """

    def __init__(self) -> None:
        self.yield_callback: Callable[[], object] | None = None
        """What to call at such a point; None when nobody is to be served."""

    def yield_now(self) -> None:
        """Serve what waits, if it is time."""
        if self.yield_callback is not None:
            self.yield_callback()

    @contextmanager
    def serving(self, callback: Callable[[], object] | None) -> Iterator[None]:
        """Serve with ``callback()`` inside the block; None leaves everything as it is."""
        if callback is None:
            yield
            return
        outer, next_call = self.yield_callback, time.monotonic() + INTERVAL_S

        def call() -> None:
            nonlocal next_call
            if time.monotonic() < next_call:
                return
            self.yield_callback, began = None, time.monotonic()
            next_call = float("inf")  # layers that have this function at hand must not call it from inside itself
            try:
                callback()
            finally:
                self.yield_callback = call
                next_call = time.monotonic() + max(INTERVAL_S, min(time.monotonic() - began, MOST_S))

        self.yield_callback = call
        try:
            yield
        finally:
            self.yield_callback = outer
