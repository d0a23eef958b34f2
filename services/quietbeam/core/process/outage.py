"""Outages of what a stage stands on: Redis away or refusing, a disk that is full. They are waited out, however long."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from typing import TypeVar

import redis
import structlog

from .stop import StopRequest

log = structlog.get_logger()

T = TypeVar("T")
FIRST_S = 0.25
LONGEST_S = 5.0
REMIND_S = 300.0

DISK_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EACCES,
        errno.EPERM,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EMFILE,
        errno.ENFILE,
    }
)
_REFUSALS = {
    "OOM": "Redis is full: raise its maxmemory",
    "MISCONF": "Redis cannot write to its own disk: free space there",
    "NOREPLICAS": "Redis has too few replicas to write: start them",
    "READONLY": "Redis at this address is a read-only replica: wait for the failover, or correct redis.url",
    "UNBLOCKED": "Redis has become a replica: wait for the failover",
    "LOADING": "Redis is loading its data",
    "MASTERDOWN": "Redis has lost its primary",
    "CLUSTERDOWN": "the Redis cluster is down",
    "TRYAGAIN": "the Redis cluster moves its data",
    "NOPERM": "Redis does not let this user do it: correct the user's ACL, or redis.url",
}
_CODE = re.compile(rf"(?:^|caused error: )({'|'.join(_REFUSALS)})\b")
_BY_TYPE: dict[type[Exception], str] = {
    redis.OutOfMemoryError: "OOM",
    redis.ReadOnlyError: "READONLY",
    redis.BusyLoadingError: "LOADING",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.NoPermissionError: "NOPERM",
}


def redis_outage(error: BaseException) -> str:
    """Return what is wrong with Redis and what to do; empty when the error is a mistake of the program."""
    for family, code in _BY_TYPE.items():
        if isinstance(error, family):
            return _REFUSALS[code]
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return "Redis does not answer: start it, or correct redis.url (REDIS_URL)"
    found = _CODE.search(str(error)) if isinstance(error, redis.ResponseError) else None
    return _REFUSALS[found[1]] if found else ""


def disk_outage(error: BaseException, folder: object = "") -> str:
    """Return what keeps a file from being written; empty when the error is no trouble of the disk.

    Parameters
    ----------
    folder
        Where files were to be written; the file that the error names says it better.
    """
    if not isinstance(error, OSError) or error.errno not in DISK_ERRORS:
        return ""
    where = folder or error.filename or "the disk"
    why = os.strerror(error.errno or 0)
    return f"cannot write to {where}: {why[:1].lower()}{why[1:]}"


class Outages:
    """Waits while something is away: says so at once and every few minutes, and pauses longer from try to try.

    Parameters
    ----------
    stage
        Name of the stage.
    stop
        Ends a pause.
    folder
        Where the stage writes.
    """

    def __init__(self, stage: str, stop: StopRequest, folder: object = "") -> None:
        self._stage, self._stop, self._folder = stage, stop, folder
        self._since = self._reminded = 0.0
        self._pause_s = 0.0
        self.sentence = ""
        """What is waited for; empty while nothing is."""
        self.of_redis = False
        """True when Redis was away or refused in this outage: it may have lost what it had."""

    def begin(self, error: BaseException) -> bool:
        """Note an outage, also one that goes on; False when the error is none."""
        of_redis, of_disk = redis_outage(error), disk_outage(error, self._folder)
        reason = of_redis or of_disk
        if not reason:
            return False
        now = time.monotonic()
        if not self.sentence:
            self._since, self._pause_s = now, 0.0
        sentence = f"{reason[:1].upper()}{reason[1:]}. {self._stage.capitalize()} retries."
        if sentence != self.sentence or now - self._reminded > REMIND_S:
            since_s = round(now - self._since)
            event = "redis_unavailable" if of_redis else "disk_unavailable"
            log.warning(event, waits_for=sentence, since_s=since_s, error=str(error))
            self._reminded = now
        self.sentence, self.of_redis = sentence, self.of_redis or bool(of_redis)
        return True

    def pause(self) -> None:
        """Wait before the next try, longer each time."""
        self._pause_s = min(LONGEST_S, max(FIRST_S, 2 * self._pause_s))
        self._stop.wait(self._pause_s)

    def end(self) -> None:
        """Note that the stage works again."""
        if self.sentence:
            event = "redis_reconnected" if self.of_redis else "disk_writable_again"
            log.info(event, unavailable_s=round(time.monotonic() - self._since, 2))
        self.sentence, self.of_redis = "", False


def build_when_possible(build: Callable[[], T], stage: str, stop: StopRequest, folder: object = "") -> T | None:
    """Return what `build` makes, as soon as what it needs is there; None when the stop was asked for before."""
    outages = Outages(stage, stop, folder)
    while not stop.is_set():
        try:
            built = build()
        except (OSError, redis.RedisError) as error:
            if not outages.begin(error):
                raise
            outages.pause()
        else:
            outages.end()
            return built
    return None
