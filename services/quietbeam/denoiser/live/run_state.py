"""The state of a run's data, as ingest keeps it in Redis."""

from __future__ import annotations

import time
from typing import Any

from quietbeam.core.model.types import RunState
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection

_POLL_S = 0.5
_FINAL = (
    RunState.COMPLETE,
    RunState.INCOMPLETE,
    RunState.ABORTED,
    RunState.FAILED,
    RunState.STALE,  # finished as it is; a row that still comes opens it again
)


class RunStatePoller:
    """Reads the state at most every half second.

    Attributes
    ----------
    ended
        True when no more rows are expected.
    """

    def __init__(self, connection: Connection, uid: str) -> None:
        self._redis, self._key = connection, keys.run(uid)
        self._next_poll = 0.0
        self.ended = False

    def poll(self) -> None:
        """Read the state, if it is time."""
        if time.monotonic() < self._next_poll:
            return
        self._next_poll = time.monotonic() + _POLL_S
        value: Any = self._redis.hget(self._key, "state")
        if value is not None:
            self.ended = RunState(value.decode()) in _FINAL
