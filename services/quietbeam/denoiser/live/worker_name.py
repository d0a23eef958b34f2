"""The name of a worker: one process at a time has it.

On one machine a locked file says who has a name; the lock ends with the process, however that ends, so a restarted
worker has its name, and with it its runs, at once. Between machines a key in Redis says it, which expires.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
import structlog
from filelock import FileLock

from quietbeam.core.errors import ServiceError
from quietbeam.core.process.lock import HeldError, acquire
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection

log = structlog.get_logger()

_MOST = 64


class WorkerName:
    """A name that this process has claimed.

    Parameters
    ----------
    folder
        Folder of the lock files.
    lifetime
        A name that is not renewed is free for other machines after this time.

    Attributes
    ----------
    text
        The name.
    """

    def __init__(self, connection: Connection, folder: Path, lifetime: timedelta) -> None:
        self._redis, self._folder = connection, folder
        self._lifetime_ms = int(lifetime.total_seconds() * 1000)
        self._host = socket.gethostname()
        self._lock: FileLock | None = None
        self.text = ""

    def claim(self, name: str) -> None:
        """Take a name, in a folder that is made where it is missing.

        Raises
        ------
        ServiceError
            Another worker has it.
        """
        try:
            self._try(name)
        except HeldError as error:
            raise ServiceError(
                f"a worker named {name!r} runs already ({error.pid})",
                remedy="stop it, or start this one with another --name",
            ) from error

    def claim_free(self, name: str) -> None:
        """Take a name, with a number when other workers have it.

        Raises
        ------
        ServiceError
            All numbers are taken.
        """
        for number in range(1, _MOST + 1):
            try:
                self._try(name if number == 1 else f"{name}-{number}")
            except HeldError as error:
                log.info("worker_name_taken", name=name, number=number, by=error.pid)
            else:
                return
        raise ServiceError(f"{_MOST} workers named {name!r} run already", remedy="start this one with a --name")

    def renew(self) -> None:
        """Keep the name for another lifetime."""
        self._redis.set(keys.worker(self.text), self._mark(), px=self._lifetime_ms)

    def release(self) -> None:
        """Give the name back."""
        if self._lock is None:
            return
        self._lock.release()
        with suppress(redis.RedisError):  # it expires
            self._redis.delete(keys.worker(self.text))

    def _try(self, name: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"worker-{re.sub('[^A-Za-z0-9._-]', '_', name)}.lock"
        lock = acquire(path)
        try:
            holder: Any = self._redis.set(keys.worker(name), self._mark(), nx=True, px=self._lifetime_ms, get=True)
            if holder is not None and not holder.decode().startswith(f"{self._host}:"):
                raise HeldError(path, holder.decode())  # of another machine, and not expired
        except BaseException:
            lock.release()
            raise
        self._lock, self.text = lock, name
        self.renew()  # over what a killed process of this machine left

    def _mark(self) -> str:
        return f"{self._host}:{os.getpid()}"
