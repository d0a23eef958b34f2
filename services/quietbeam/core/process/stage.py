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
    idle_wait_s: float = 0.02,
) -> None:
    """Turn `stage.step()` until `stop` is set. Redis outages are waited out; other errors end the process.

    `detail` is a sentence for the heartbeat; `trouble` one that says what is wrong and what it costs, else empty.
    """
    last_beat = -HEARTBEAT_S
    lost_at: float | None = None
    log.info("stage_started", pid=os.getpid())
    try:
        while not stop.is_set():
            try:
                if lost_at is not None:
                    connection.ping()
                    stage.recover()
                    log.info("redis_reconnected", unavailable_s=round(time.monotonic() - lost_at, 2))
                    lost_at = None
                if time.monotonic() - last_beat >= HEARTBEAT_S:
                    problem = trouble()
                    state = "degraded" if problem else "ready"
                    with contextlib.suppress(redis.OutOfMemoryError):  # a full Redis is the stage's affair
                        heartbeat(connection, stage.name, state=state, detail=problem or detail())
                    last_beat = time.monotonic()
                if not stage.step():
                    stop.wait(idle_wait_s)
            except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError) as error:
                if lost_at is None:
                    lost_at = time.monotonic()
                    log.warning("redis_unavailable", error=str(error))
                stop.wait(0.25)
    finally:
        if stop.is_set():
            log.info("stopping", signal=stop.signal.name if stop.signal else "none")
        try:
            stage.close()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            log.warning("closed_without_redis", error=str(error))
        log.info("stage_stopped")
