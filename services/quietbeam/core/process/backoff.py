"""Pauses between tries while a disk or Redis is full, for stages that do something else meanwhile."""

from __future__ import annotations

import time

FIRST_S = 0.1
LONGEST_S = 5.0


class Backoff:
    """Grows from try to try until one succeeds.

    Parameters
    ----------
    first_s, longest_s
        The first pause, and the longest [s].
    """

    def __init__(self, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self.seconds = 0.0
        """Present pause; 0 when the last try succeeded."""
        self.reason = ""
        """Why the last try failed; empty when it succeeded."""
        self._until = 0.0

    def pauses(self, now: float) -> bool:
        """Return whether the next try is still to be awaited."""
        return self.seconds > 0 and now < self._until

    def failed(self, reason: str) -> bool:
        """Double the pause; return True when this is the first failure."""
        self.reason = reason
        first = not self.seconds
        self.seconds = min(self._longest_s, max(self._first_s, self.seconds * 2))
        self._until = time.monotonic() + self.seconds
        return first

    def succeeded(self) -> bool:
        """End the pauses; return True when there was one."""
        paused, self.seconds, self.reason = self.seconds > 0, 0.0, ""
        return paused
