"""How a stage runs: `step()` in a loop, heartbeats, retries while Redis is unavailable, clean stop on signals."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Protocol

import psutil
import redis
import structlog

from ..wire import keys
from ..wire.bus import Connection
from .outage import Outages
from .stop import StopRequest

log = structlog.get_logger()

HEARTBEAT_S = 2.0
HEARTBEAT_EXPIRES_S = 15


class Stage(Protocol):
    """A loop body that tests can turn by hand."""

    name: str

    def step(self) -> bool:
        """Do one bounded piece of work (at most a few seconds, blocking reads included); False when idle."""
        ...

    def recover(self) -> None:
        """Redis was unavailable and is reachable again: read again what is unacknowledged, rewrite states."""
        ...

    def close(self) -> None:
        """Finish what is in hand and release everything; called once."""
        ...


def heartbeat(connection: Connection, name: str, *, state: str = "ready", detail: str = "") -> None:
    """Say that a stage is alive, and how much memory it holds."""
    memory = psutil.Process().memory_info().rss
    with connection.pipeline() as pipe:
        pipe.hset(
            keys.stage(name),
            mapping={"pid": os.getpid(), "at": time.time(), "state": state, "detail": detail, "memory": memory},
        )
        pipe.expire(keys.stage(name), HEARTBEAT_EXPIRES_S)
        pipe.execute()


def run_stage(
    stage: Stage,
    connection: Connection,
    stop: StopRequest,
    *,
    detail: Callable[[], str] = lambda: "",
    trouble: Callable[[], str] = lambda: "",
    folder: object = "",
    idle_wait_s: float = 0.02,
) -> None:
    """Turn `stage.step()` until `stop` is set. Outages of Redis and of the disk are waited out; other errors end it.

    Parameters
    ----------
    detail
        Returns a sentence for the heartbeat.
    trouble
        Returns a sentence that says what is wrong and what it costs, else an empty one.
    folder
        Where the stage writes, for messages.
    """
    outages = Outages(stage.name, stop, folder)
    beat = _Beat(connection, stage.name, lambda: outages.sentence or trouble(), detail)
    log.info("stage_started", pid=os.getpid())
    try:
        while not stop.is_set():
            try:
                beat.send_if_due()
                if outages.of_redis:
                    stage.recover()
                worked = stage.step()
                outages.end()
                if not worked:
                    stop.wait(idle_wait_s)
            except (OSError, redis.RedisError) as error:
                if not outages.begin(error):
                    raise
                outages.pause()
    finally:
        if stop.is_set():
            log.info("stopping", signal=stop.signal.name if stop.signal else "none")
        try:
            stage.close()
        except (OSError, redis.RedisError) as error:
            if not outages.begin(error):
                raise
            log.warning("closed_in_an_outage", error=str(error))
        log.info("stage_stopped")


class _Beat:
    """Sends the heartbeat of a stage; what Redis does not take is not sent."""

    def __init__(
        self, connection: Connection, name: str, trouble: Callable[[], str], detail: Callable[[], str]
    ) -> None:
        self._redis, self._name, self._trouble, self._detail = connection, name, trouble, detail
        self._last = -HEARTBEAT_S

    def send_if_due(self) -> None:
        if time.monotonic() - self._last < HEARTBEAT_S:
            return
        wrong = self._trouble()
        state = "degraded" if wrong else "ready"
        with contextlib.suppress(redis.OutOfMemoryError):  # a full Redis is the stage's affair
            heartbeat(self._redis, self._name, state=state, detail=wrong or self._detail())
        self._last = time.monotonic()
