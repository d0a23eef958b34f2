"""What people ask of a run: from the API, over Redis, to the stage that owns the thing.

An action is queued in the stream of one stage and stays there until its effect is on disk, so that a stage that dies
finds it again. Its state is a hash that outlives it for a week.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
import structlog

from . import keys
from .bus import Connection, GroupReader, emit

log = structlog.get_logger()

STATE_TTL_S = 7 * 24 * 3600
READ_EVERY_S = 0.2


class ActionKind(StrEnum):
    """What can be asked."""

    DENOISE = "denoise"
    """Denoise a finished run again. Options: ``weights``, ``budget_s``."""
    CHOOSE_WEIGHTS = "choose_weights"
    """Take other weights for the runs that follow. Options: ``weights``."""
    PIN = "pin"
    UNPIN = "unpin"
    DELETE = "delete"
    """Delete a run: buffer and state, then its node in Tiled."""


OWNER = {
    ActionKind.DENOISE: "worker",
    ActionKind.CHOOSE_WEIGHTS: "worker",
    ActionKind.PIN: "ingest",
    ActionKind.UNPIN: "ingest",
    ActionKind.DELETE: "ingest",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action.

    Attributes
    ----------
    run
        uid; empty for what concerns no single run.
    state
        ``queued``, ``running``, ``done`` or ``failed``.
    reason
        Sentence: why it failed, or what is still to come.
    by
        Who asked.
    at
        When, seconds since 1970.
    """

    id: str
    kind: ActionKind
    run: str
    options: Mapping[str, Any] = field(default_factory=dict)
    state: str = "queued"
    reason: str = ""
    by: str = ""
    at: float = 0.0

    @property
    def settled(self) -> bool:
        """True when nothing more happens."""
        return self.state in ("done", "failed")


def submit(
    connection: Connection, kind: ActionKind, run: str, by: str, options: Mapping[str, Any] | None = None
) -> Action:
    """Queue an action; return the one that waits already where there is one of this kind for this run."""
    action = Action(
        id=secrets.token_hex(8), kind=kind, run=run, options=dict(options or {}), by=by, at=round(time.time(), 3)
    )
    with connection.pipeline() as pipe:
        pipe.hset(keys.action(action.id), mapping=_to_hash(action))
        pipe.expire(keys.action(action.id), STATE_TTL_S)
        pipe.execute()
    while not connection.hsetnx(keys.unsettled(run), kind, action.id):
        queued = _waiting(connection, run, kind)
        if queued is not None:
            connection.delete(keys.action(action.id))
            return queued
    with connection.pipeline() as pipe:
        pipe.expire(keys.unsettled(run), STATE_TTL_S)
        pipe.xadd(keys.control(OWNER[kind]), {"id": action.id})
        pipe.execute()
    emit(connection, "action", run, id=action.id, action=kind, state=action.state, reason="")
    return action


def read(connection: Connection, action_id: str) -> Action | None:
    """Return an action, None for an unknown one."""
    fields: Any = connection.hgetall(keys.action(action_id))
    if not fields:
        return None
    texts = {name.decode(): value.decode() for name, value in fields.items()}
    return Action(
        id=action_id,
        kind=ActionKind(texts["kind"]),
        run=texts["run"],
        options=orjson.loads(texts["options"]),
        state=texts["state"],
        reason=texts["reason"],
        by=texts["by"],
        at=float(texts["at"]),
    )


def waiting(connection: Connection, run: str) -> list[Action]:
    """Return what was asked of a run and is not settled."""
    unsettled: Any = connection.hgetall(keys.unsettled(run))
    found = (read(connection, action_id.decode()) for action_id in unsettled.values())
    return [action for action in found if action is not None and not action.settled]


def set_state(connection: Connection, action: Action, state: str, reason: str = "") -> None:
    """Store the state of an action; ``done`` and ``failed`` settle it."""
    with connection.pipeline() as pipe:
        queue_state(pipe, action, state, reason)
        pipe.execute()


def queue_state(pipe: Connection, action: Action, state: str, reason: str = "") -> None:
    """Add :func:`set_state` to a pipeline."""
    pipe.hset(keys.action(action.id), mapping={"state": state, "reason": reason})
    pipe.expire(keys.action(action.id), STATE_TTL_S)
    if state in ("done", "failed"):
        pipe.hdel(keys.unsettled(action.run), action.kind)
    emit(pipe, "action", action.run, id=action.id, action=action.kind, state=state, reason=reason)
    log.info("action_" + state, action=action.kind, id=action.id, run=action.run, by=action.by, reason=reason)


class Inbox:
    """The actions that one stage has to do, at least once each.

    Parameters
    ----------
    connection
        Redis client of the stage.
    stage
        Whose inbox.
    consumer
        Name of this process; after a restart the same name gets what it left undone.
    """

    def __init__(self, connection: Connection, stage: str, consumer: str) -> None:
        self._redis, self._stage, self._consumer = connection, stage, consumer
        self._reader: GroupReader | None = None  # made when first read: a stage can be built while Redis is away
        self._next_read = 0.0
        self._open: dict[str, bytes] = {}

    def restart(self) -> None:
        """Redis is back: read again what is not settled."""
        self._reader = None
        self._next_read = 0.0

    def read(self) -> list[Action]:
        """Return new actions; asks Redis at most every `READ_EVERY_S`."""
        if time.monotonic() < self._next_read:
            return []
        self._next_read = time.monotonic() + READ_EVERY_S
        if self._reader is None:
            self._reader = GroupReader(self._redis, keys.control(self._stage), self._stage, self._consumer)
        found = []
        for message in self._reader.read(count=64, block_ms=0):
            action_id = message.fields.get(b"id", b"").decode(errors="replace")
            action = read(self._redis, action_id)
            if action is None or action.settled:
                self._reader.acknowledge([message.id])
                continue
            if action_id not in self._open:
                found.append(action)
            self._open[action_id] = message.id
        return found

    def close(self, action: Action) -> None:
        """The effect of an action is kept; forget it."""
        entry = self._open.pop(action.id, None)
        if entry is not None:
            self._redis.xack(keys.control(self._stage), self._stage, entry)
            self._redis.xdel(keys.control(self._stage), entry)


def forward(connection: Connection, action: Action, stage: str) -> None:
    """Hand an action on to the stage that does its next part."""
    connection.xadd(keys.control(stage), {"id": action.id})


def _waiting(connection: Connection, run: str, kind: ActionKind) -> Action | None:
    """Return the unsettled action of this kind; clear the mark of one that is over."""
    action_id: Any = connection.hget(keys.unsettled(run), kind)
    action = read(connection, action_id.decode()) if action_id else None
    if action is not None and not action.settled:
        return action
    connection.hdel(keys.unsettled(run), kind)
    return None


def _to_hash(action: Action) -> dict[Any, Any]:
    return {
        "kind": action.kind,
        "run": action.run,
        "options": orjson.dumps(action.options),
        "state": action.state,
        "reason": action.reason,
        "by": action.by,
        "at": repr(action.at),
    }
