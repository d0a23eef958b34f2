"""What people ask of the denoise worker: denoise a finished run again, take other weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from quietbeam.core.wire import actions, keys, runs
from quietbeam.core.wire.actions import Action, ActionKind
from quietbeam.core.wire.bus import Connection
from quietbeam_models.weights import known

log = structlog.get_logger()


class Requests:
    """The worker's inbox. A request to denoise moves into the run's hash: whichever worker takes the run finds it.

    Parameters
    ----------
    consumer
        Name of this worker.
    weights
        Those of the settings.
    folder
        Weights of one's own, beside the shipped ones.
    """

    def __init__(self, connection: Connection, consumer: str, weights: str, folder: Path) -> None:
        self._redis, self._weights, self._folder = connection, weights, folder
        self._inbox = actions.Inbox(connection, "worker", consumer)

    def restart(self) -> None:
        """Redis is back."""
        self._inbox.restart()

    def turn(self) -> list[str]:
        """Take in what was asked; return the runs that are to be denoised again."""
        found = []
        for action in self._inbox.read():
            weights = str(action.options.get("weights") or "")
            there = known(self._folder)
            if weights and weights not in there:
                why = f"no weights {weights[:40]!r} are installed with the worker; there are {', '.join(there)}"
                actions.note(self._redis, action, "failed", why)
            elif action.kind is ActionKind.CHOOSE_WEIGHTS:
                self._redis.set(keys.WEIGHTS, weights)
                actions.note(self._redis, action, "done")
            else:
                runs.write_status(
                    self._redis,
                    action.run,
                    denoise_request=action.id,
                    denoise_state="waiting",
                    denoise_reason="it is denoised again",
                )
                actions.note(self._redis, action, "running")
                found.append(action.run)
            self._inbox.close(action)
        return found

    def options(self, uid: str) -> tuple[str, float | None]:
        """Return with which weights a run is denoised, and how long it is fine-tuned at its end (None: as usual).

        Weights are what :func:`load_weights` takes; "" is the shipped ones.
        """
        action = self._of(uid)
        chosen: Any = self._redis.get(keys.WEIGHTS)
        weights = (action and action.options.get("weights")) or (chosen or b"").decode() or self._weights
        there = known(self._folder)
        if weights and weights not in there:
            log.warning("weights_missing", weights=weights, there=list(there), run=uid)
        return there.get(weights, ""), action.options.get("budget_s") if action is not None else None

    def settle(self, uid: str, trouble: str) -> None:
        """A run has its final maps: say so to whoever asked for them."""
        action = self._of(uid)
        if action is not None:
            actions.note(self._redis, action, "failed" if trouble else "done", trouble)
            self._redis.hdel(keys.run(uid), "denoise_request")

    def _of(self, uid: str) -> Action | None:
        action_id: Any = self._redis.hget(keys.run(uid), "denoise_request")
        return actions.read(self._redis, action_id.decode()) if action_id else None
