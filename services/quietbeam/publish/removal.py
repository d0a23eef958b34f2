"""Runs that were deleted leave Tiled too, at the latest when it answers again."""

from __future__ import annotations

import time
from dataclasses import replace

import redis
import structlog

from quietbeam.core.process.outage import redis_outage
from quietbeam.core.wire import actions
from quietbeam.core.wire.actions import Action
from quietbeam.core.wire.bus import Connection

from .tiled_api import TiledApi, TiledAwayError, TiledBusyError, TiledRefusedError

log = structlog.get_logger()

RETRY_S = 5.0


class Removal:
    """Publish's inbox: the last part of every deletion.

    Parameters
    ----------
    root
        Container of all runs in Tiled.
    """

    def __init__(self, connection: Connection, api: TiledApi, root: str) -> None:
        self._redis, self._api, self._root = connection, api, root
        self._inbox = actions.Inbox(connection, "publish", "publish")
        self._open: dict[str, Action] = {}
        self._next_try = 0.0
        self._refused = False

    def restart(self) -> None:
        """Start again after an outage of Redis."""
        self._inbox.restart()

    def poll(self) -> list[str]:
        """Read deletions and do those that wait; return the uids of new ones: nothing of them may be sent again."""
        try:
            found = self._poll()
            self._refused = False
            return found
        except redis.ResponseError as error:
            reason = redis_outage(error)
            if not reason:
                raise
            if not self._refused:
                log.warning("redis_refuses", waits_for=f"{reason}. Deletions wait.", error=str(error))
            self._refused = True
            self._next_try = time.monotonic() + RETRY_S
            return []

    def _poll(self) -> list[str]:
        found = self._inbox.read()
        self._open |= {action.id: action for action in found}
        if found or time.monotonic() >= self._next_try:
            for action in list(self._open.values()):
                if not self._remove(action):
                    self._next_try = time.monotonic() + RETRY_S
                    break
        return [action.run for action in found]

    def _remove(self, action: Action) -> bool:
        """Delete a run's node; False when Tiled must be asked again later."""
        try:
            was_there = self._api.delete(f"{self._root}/{action.run}")
        except (TiledAwayError, TiledBusyError) as error:
            reason = f"deleted here; {error}, its node there waits for that"
            if reason != action.reason:
                actions.set_state(self._redis, action, "running", reason)
                self._open[action.id] = replace(action, reason=reason)
            return False
        except TiledRefusedError as error:
            actions.set_state(self._redis, action, "failed", f"deleted here, but not in Tiled: {error}")
        else:
            actions.set_state(self._redis, action, "done", "" if was_there else "it was not in Tiled")
        del self._open[action.id]
        self._inbox.close(action)
        return True
