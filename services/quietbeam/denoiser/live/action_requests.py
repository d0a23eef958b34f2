"""Actions that people request of the denoise worker: denoise a finished run again, choose other weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from quietbeam.core.wire import actions, fence, keys, runs
from quietbeam.core.wire.actions import Action, ActionKind
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.fence import Lease
from quietbeam_models.weights import installed_weights

log = structlog.get_logger()


class ActionRequests:
    """The worker's inbox.

    A request to denoise moves into the run's hash, where the worker that leases the run finds it.

    Parameters
    ----------
    consumer
        Name of this worker.
    weights
        Those of the settings.
    folder
        Folder of user-trained weights, beside the shipped ones.
    """

    def __init__(self, connection: Connection, consumer: str, weights: str, folder: Path) -> None:
        self._redis, self._weights, self._folder = connection, weights, folder
        self._inbox = actions.Inbox(connection, "worker", consumer)

    def restart(self) -> None:
        """Read requests again that were not answered before an outage."""
        self._inbox.restart()

    def poll(self) -> list[str]:
        """Handle new requests; return the runs that are to be denoised again."""
        found = []
        for action in self._inbox.read():
            weights = str(action.options.get("weights") or "")
            installed = installed_weights(self._folder)
            if weights and weights not in installed:
                why = f"no weights {weights[:40]!r} are installed with the worker; there are {', '.join(installed)}"
                actions.set_state(self._redis, action, "failed", why)
            elif action.kind is ActionKind.CHOOSE_WEIGHTS:
                self._redis.set(keys.WEIGHTS, weights)
                actions.set_state(self._redis, action, "done")
            else:
                runs.write_status(
                    self._redis,
                    action.run,
                    denoise_request=action.id,
                    denoise_state="waiting",
                    denoise_reason="it is denoised again",
                )
                actions.set_state(self._redis, action, "running")
                found.append(action.run)
            self._inbox.close(action)
        return found

    def options(self, uid: str) -> tuple[str, float | None]:
        """Return the weights that a run is denoised with, and its final fine-tuning budget [s].

        The weights are what :func:`load_weights` takes, "" for the shipped ones. The budget is None for that of the
        settings.
        """
        action = self._request_of(uid)
        chosen: Any = self._redis.get(keys.WEIGHTS)
        weights = (action and action.options.get("weights")) or (chosen or b"").decode() or self._weights
        installed = installed_weights(self._folder)
        if weights and weights not in installed:
            log.warning("weights_missing", weights=weights, installed=list(installed), run=uid)
        return installed.get(weights, ""), action.options.get("budget_s") if action is not None else None

    def waits(self, uid: str) -> bool:
        """Return True when somebody asked for the run to be denoised again and it is not done yet."""
        return self._request_of(uid) is not None

    def settle(self, lease: Lease, failure: str) -> None:
        """Settle the request of a run that has its final maps.

        Raises
        ------
        LeaseLostError
            Another worker has the run now, and with it the request.
        """
        action = self._request_of(lease.uid)
        with fence.fenced(self._redis, lease) as pipe:
            if action is not None:
                actions.queue_state(pipe, action, "failed" if failure else "done", failure)
            pipe.hdel(keys.run(lease.uid), "denoise_request")  # also one that expired

    def _request_of(self, uid: str) -> Action | None:
        action_id: Any = self._redis.hget(keys.run(uid), "denoise_request")
        return actions.read(self._redis, action_id.decode()) if action_id else None
