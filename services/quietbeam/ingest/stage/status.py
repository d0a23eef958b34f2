"""The state of runs in Redis, written when it changes and not too often."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import DamagedRunError, NotMeasuredError
from quietbeam.core.model.types import RunInfo, RunState
from quietbeam.core.wire import bus, runs
from quietbeam.core.wire.bus import Connection

from ..run.condition import RunCondition

EVERY_S = 0.25
"""Changes are written at most so often, a new state at once."""
TOUCHED_S = 1.0
"""The time of the last document is written at most so often."""


class Reported(Protocol):
    """A run that others see."""

    uid: str
    condition: RunCondition

    @property
    def info(self) -> RunInfo | None:
        """What is known of the run."""
        ...

    @property
    def time_start(self) -> float | None:
        """Time of its start document."""
        ...

    def status(self) -> dict[str, Any]:
        """Return the fields of the run's hash that ingest writes."""
        ...


@dataclass(slots=True)
class Shown:
    """What stands in Redis of a run: when it was written, the state, the revision of the condition."""

    at: float = 0.0
    state: tuple[RunState, bool] | None = None
    revision: int = -1


class StatusWriter:
    """Writes the fields of ``qb:run:UID`` that are ingest's.

    Parameters
    ----------
    connection
        Redis client of the stage.
    runs_dir
        Where buffers are: what a run has on disk is not overwritten by a start document that was missed.
    """

    def __init__(self, connection: Connection, runs_dir: Path) -> None:
        self._redis, self._runs_dir = connection, runs_dir

    def write(self, reported: Iterable[Reported], shown: dict[str, Shown], *, force: bool = False) -> None:
        """Write the runs whose state is new or has been different for some time; with `force`, all of them."""
        for run in reported:
            self._write(run, shown.setdefault(run.uid, Shown()), force=force)

    def _write(self, run: Reported, shown: Shown, *, force: bool) -> None:
        now, condition = time.monotonic(), run.condition
        state = (condition.state, run.info is not None)
        new_state, since = shown.state != state, now - shown.at
        changed = shown.revision != condition.revision and since > EVERY_S
        touched = condition.last_document > shown.at and since > TOUCHED_S
        if not (force or new_state or changed or touched):
            return
        status: Mapping[str, Any] = run.status()
        if run.time_start is None and self._is_buffered(run.uid):
            status = {"warnings": [*condition.warnings, condition.reason]}  # what is on disk stays as it is
        elif force or new_state:
            runs.register_run(self._redis, run.uid, time.time() if run.time_start is None else run.time_start)
        if "state" in status:
            seconds_ago = now - condition.last_document
            status = {**status, "last_document_at": time.time() - seconds_ago}
        runs.write_status(self._redis, run.uid, **status)
        shown.at, shown.state, shown.revision = now, state, condition.revision
        if new_state and "state" in status:
            bus.emit(self._redis, "run", run.uid, state=condition.state.value, reason=condition.reason)

    def _is_buffered(self, uid: str) -> bool:
        try:
            RunBuffer.open(self._runs_dir, uid)
        except NotMeasuredError:
            return False
        except DamagedRunError:  # it is there
            pass
        return True
